import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { get, post, submit } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

let openGate = () => {}
const gate = new Promise<void>((resolve) => (openGate = resolve))

const db = await testDatabase()
const pod = await startTestPod(db.url, [
  defineStep('double', { input: z.object({ n: z.number() }) }, async ({ n }) => {
    await gate
    if (n < 0) throw new Error('negative')
    return n * 2
  }),
  defineStep('big', {}, () => 'x'.repeat(600_000)),
  defineStep('fan', { input: z.object({ numbers: z.array(z.number()) }) }, async ({ numbers }, ctx) => {
    const wishes = numbers.map((n) => ({ type: 'double', args: { n }, max_retries: 0 }))
    const children = await ctx.submitAll('doubles', wishes)
    return { doubled: await children.results() }
  }),
  defineStep('late', {}, async (_, ctx) => {
    const children = await ctx.submitAll('doubles', [{ type: 'double', args: { n: 4 } }])
    await ctx.waitForEvent('go')
    return { doubled: await children.results() }
  }),
  defineStep('greedy', {}, async (_, ctx) => {
    const children = await ctx.submitAll('both', [{ type: 'big' }, { type: 'big' }])
    return children.results()
  }),
])
const held = (id: string) =>
  until(`${id} to wait`, async () => (await get(pod.url, `/status/${id}`)).body['tray'] === 'held')
const settled = (id: string) =>
  until(`step ${id} to settle`, async () => {
    const { body } = await get(pod.url, `/status/${id}`)
    return body['tray'] === 'settled' && body
  })

test('who waits for two hundred steps at once is woken once, by the last of them', async () => {
  const numbers = Array.from({ length: 200 }, (_, i) => i)
  const id = await submit(pod.url, { type: 'fan', args: { numbers } })
  await held(id)
  openGate()
  const status = await settled(id)
  assert.deepEqual(status['result'], { doubled: numbers.map((n) => n * 2) })
  assert.deepEqual(
    (status['attempts'] as { ended: string }[]).map((attempt) => attempt.ended),
    ['suspended', 'completed'],
  )
})

test('one of many that fails fails who waits for all, which says which it was', async () => {
  const id = await submit(pod.url, { type: 'fan', args: { numbers: [1, -1, 2] } })
  const status = await settled(id)
  assert.equal(status['status'], 'failed')
  const { body } = await get(pod.url, `/api/v1/executions/${id}`)
  const [submitted] = body['steps'] as { kind: string; result: string[] }[]
  assert.equal(submitted?.kind, 'children')
  assert.ok(JSON.stringify(status['error']).includes(`${submitted.result[1]} failed: negative`))
})

test('steps that had all ended before they were asked for are waited for by nobody', async () => {
  const id = await submit(pod.url, { type: 'late' })
  await held(id)
  await until('the child to end', async () => {
    const [row] = await db.sql`
      select from fleet_q.steps join fleet_q.outcomes on step_id = id
      where parent_id = fleet_q.step_key(${id})`
    return row
  })
  await post(pod.url, `/api/v1/events/${id}/go`)
  assert.deepEqual((await settled(id))['result'], { doubled: [8] })
})

test('none is no reason to wait, and more than a thousand at once are refused', async () => {
  const none = await settled(await submit(pod.url, { type: 'fan', args: { numbers: [] } }))
  assert.deepEqual(none['result'], { doubled: [] })
  const numbers = Array.from({ length: 1001 }, (_, i) => i)
  const status = await settled(await submit(pod.url, { type: 'fan', args: { numbers } }))
  assert.equal(status['status'], 'failed')
  assert.match(JSON.stringify(status['error']), /1000 at most/)
})

test('what many steps returned together has a bound, and the failure says so', async () => {
  const status = await settled(await submit(pod.url, { type: 'greedy' }))
  assert.equal(status['status'], 'failed')
  assert.match(JSON.stringify(status['error']), /more than 1048576 bytes together/)
})
