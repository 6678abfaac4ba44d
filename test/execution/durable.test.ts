import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { get, submit } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

const db = await testDatabase()
/** How often each body ran. */
const ran: Record<string, number> = {}
const count = (name: string) => (ran[name] = (ran[name] ?? 0) + 1)

const pod = await startTestPod(db.url, [
  defineStep('charge', {}, async (_, ctx) => {
    const charge = await ctx.run('charge', () => ({ id: count('charge') }))
    await ctx.sleep('cool-off', 200)
    const mail = await ctx.run('mail', () => count('mail'))
    return { charge, mail, attempt: ctx.attempt }
  }),
  defineStep('approval', {}, async (_, ctx) => {
    const approval = await ctx.waitForEvent('approved', {
      schema: z.object({ by: z.string() }),
      timeout: '1 hour',
    })
    return { by: approval.by }
  }),
  defineStep('flaky', {}, async (_, ctx) => {
    const tries = await ctx.run(
      'flaky',
      ({ attempt }) => {
        if (count('flaky') < 3) throw new Error('not yet')
        return attempt
      },
      { retry: { max: 5, base_ms: 1 } },
    )
    return { tries }
  }),
  defineStep('beside', {}, async (_, ctx) => {
    const both = await Promise.all(
      [1, 2, 3].map(async (n) => {
        await ctx.run('a', () => n)
        await ctx.sleep('pause', 100 + (4 - n) * 100)
        return ctx.run('b', () => `${n} ${count('b')}`)
      }),
    )
    return { both }
  }),
  defineStep('child', { input: z.object({ n: z.number() }) }, ({ n }) => {
    if (n < 0) throw new Error('negative')
    return n * 2
  }),
  defineStep('parent', { input: z.object({ n: z.number() }) }, async ({ n }, ctx) => {
    const child = await ctx.submit('double', { type: 'child', args: { n }, max_retries: 0 })
    return { doubled: await child.result() }
  }),
])
const settled = (id: string) =>
  until(`step ${id} to settle`, async () => {
    const { body } = await get(pod.url, `/status/${id}`)
    return body['tray'] === 'settled' && body
  })

test('what ran before a sleep does not run again after it, and the sleep costs no attempt', async () => {
  const status = await settled(await submit(pod.url, { type: 'charge' }))
  assert.deepEqual(status['result'], { charge: { id: 1 }, mail: 1, attempt: 1 })
  assert.deepEqual(
    (status['attempts'] as { ended: string }[]).map((attempt) => attempt.ended),
    ['suspended', 'completed'],
  )
})

test('a body that fails is tried again by itself, as often as it may', async () => {
  const status = await settled(await submit(pod.url, { type: 'flaky' }))
  assert.deepEqual(status['result'], { tries: 3 })
})

test('an execution waits for its event without a slot, and goes on with what it brought', async () => {
  const id = await submit(pod.url, { type: 'approval' })
  await until('it to wait', async () => (await get(pod.url, `/status/${id}`)).body['tray'] === 'held')
  const [sent] = await db.sql`select fleet_q.send_event(${id}, 'approved', '{"by":"ada"}') as waited`
  assert.equal(sent?.['waited'], true)
  const status = await settled(id)
  assert.deepEqual(status['result'], { by: 'ada' })
})

test('an event that comes before the wait is not lost', async () => {
  const [row] = await db.sql`select fleet_q.submit('approval') as id`
  const id = String(row?.['id'])
  await db.sql`select fleet_q.send_event(${id}, 'approved', '{"by":"bob"}')`
  assert.deepEqual((await settled(id))['result'], { by: 'bob' })
})

test('names that repeat side by side get what was theirs, in every replay', async () => {
  const status = await settled(await submit(pod.url, { type: 'beside' }))
  const { both } = status['result'] as { both: string[] }
  assert.deepEqual(
    both.map((text) => text.split(' ')[0]),
    ['1', '2', '3'],
  )
  assert.equal(ran['b'], 3)
})

test('a parent waits for its child, and gets its result', async () => {
  const status = await settled(await submit(pod.url, { type: 'parent', args: { n: 21 } }))
  assert.deepEqual(status['result'], { doubled: 42 })
})

test('a child that fails fails its parent, which says of what', async () => {
  const status = await settled(await submit(pod.url, { type: 'parent', args: { n: -1 } }))
  assert.equal(status['status'], 'failed')
  assert.match(JSON.stringify(status['error']), /failed: negative/)
})
