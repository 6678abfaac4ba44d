import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { get, post, submit } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

const db = await testDatabase()
/** How often each body ran. */
const ran: Record<string, number> = {}
const count = (name: string) => (ran[name] = (ran[name] ?? 0) + 1)

const undone: string[] = []
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
  defineStep('pays', {}, async (_, ctx) => {
    let tried = ''
    const paid = await ctx.run(
      'pay',
      async ({ tx, attempt }) => {
        await tx`insert into public.payments values (1)`
        if (attempt === 1) throw new Error('not yet')
        return attempt - 1
      },
      { tx: true, retry: { max: 1, base_ms: 1 } },
    )
    await ctx
      .run('once', () => Promise.reject(new Error('not yet')))
      .catch((error: Error) => {
        tried = error.message.replace('once: ', '')
      })
    return { paid, again: tried }
  }),
  defineStep('changes', {}, async (_, ctx) => {
    await ctx.run(count('changes') === 1 ? 'first' : 'second', () => 1)
    await ctx.sleep('then', 150)
  }),
  defineStep('fails-once', { backoff: { base_ms: 1 } }, async (_, ctx) => {
    const first = await ctx.run('first', () => count('first'))
    const second = await ctx.run('second', () => {
      if (count('second') === 1) throw new Error('once')
      return ran['second']
    })
    return { first, second, attempt: ctx.attempt }
  }),
  defineStep('impatient', {}, (_, ctx) => ctx.waitForEvent('never', { timeout: 150 })),
  defineStep('dice', {}, async (_, ctx) => {
    const now = [String(await ctx.now()), await ctx.random(), await ctx.version('dice', 2)]
    const before = await ctx.run('before', () => now)
    await ctx.sleep('pause', 150)
    return { before, after: now }
  }),
  defineStep(
    'books',
    { input: z.object({ waits: z.boolean().optional() }), backoff: { base_ms: 1 } },
    async (args, ctx) => {
      for (const what of ['flight', 'hotel', 'car']) {
        await ctx.run(what, () => undone.push(`book ${what}`))
        await ctx.onFailure(
          `cancel ${what}`,
          ({ attempt }) => {
            if (what === 'hotel' && attempt === 1) throw new Error('busy')
            undone.push(`cancel ${what}`)
          },
          { retry: { max: 2, base_ms: 1 } },
        )
      }
      if (args.waits) await ctx.waitForEvent('go')
      await ctx.run('pay', () => Promise.reject(new Error('no money')))
    },
  ),
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
  const { class: name, message } = status['error'] as Record<string, unknown>
  assert.equal(name, 'ChildFailed')
  assert.match(String(message), /failed: negative/)
})

test('what a body writes through its transaction, and its checkpoint, are there together or not at all', async () => {
  await db.sql`create table public.payments (n int)`
  const status = await settled(await submit(pod.url, { type: 'pays', max_retries: 0 }))
  assert.equal(status['status'], 'completed')
  assert.equal((await db.sql`select from public.payments`).length, 1)
  assert.deepEqual(status['result'], { paid: 1, again: 'not yet' })
})

test('a checkpoint that the code does not ask for any more parks its execution, and says which', async () => {
  const id = await submit(pod.url, { type: 'changes' })
  const why = await until('it to be parked', async () => {
    const { body } = await get(pod.url, `/why/${id}`)
    return body['reason'] === 'needs_attention' && body
  })
  assert.match(String(why['sentence']), /asks for "second" where it asked for "first" before/)
})

test('a failure that the handler does not catch is tried again where it failed, and what was done is not', async () => {
  const status = await settled(await submit(pod.url, { type: 'fails-once', retry: { base_ms: 1 } }))
  assert.deepEqual(status['result'], { first: 1, second: 2, attempt: 2 })
})

test('an event that is not sent in time fails the execution', async () => {
  const status = await settled(await submit(pod.url, { type: 'impatient' }))
  const { class: name, message } = status['error'] as Record<string, unknown>
  assert.deepEqual([name, message], ['EventTimeout', 'no event "never" came in time'])
})

test('what is remembered of the clock and of chance is the same after a sleep', async () => {
  const status = await settled(await submit(pod.url, { type: 'dice' }))
  const { before, after } = status['result'] as { before: unknown[]; after: unknown[] }
  assert.deepEqual(before, after)
})

const BOOKED = ['book flight', 'book hotel', 'book car']
const UNDONE = ['cancel car', 'cancel hotel', 'cancel flight']

test('an execution that fails for good undoes what it registered, the last first, and fails with its reason', async () => {
  undone.length = 0
  const status = await settled(await submit(pod.url, { type: 'books', max_retries: 1 }))
  assert.equal(status['status'], 'failed')
  assert.match(JSON.stringify(status['error']), /pay: no money/)
  assert.deepEqual(undone, [...BOOKED, ...UNDONE])
})

test('a cancelled one undoes it too, and is cancelled then', async () => {
  undone.length = 0
  const id = await submit(pod.url, { type: 'books', args: { waits: true } })
  await until('it to wait', async () => (await get(pod.url, `/status/${id}`)).body['tray'] === 'held')
  const { body } = await post(pod.url, `/steps/${id}/cancel`, { reason: 'changed my mind' })
  assert.match(String(body['message']), /is being undone/)
  const status = await settled(id)
  assert.equal(status['status'], 'cancelled')
  assert.match(JSON.stringify(status['error']), /changed my mind/)
  assert.deepEqual(undone, [...BOOKED, ...UNDONE])
})
