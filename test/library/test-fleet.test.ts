import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defineStep } from 'fleet-q'
import { ExecutionFailed, startTestFleet } from 'fleet-q/testing'
import postgres from 'postgres'
import { z } from 'zod'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'

const DAY_MS = 86_400_000
/** How often each body ran. */
const ran: Record<string, number> = {}
const count = (name: string) => (ran[name] = (ran[name] ?? 0) + 1)
/** Bodies that wait until the test lets them go, in the order in which they began. */
const held: ((value: unknown) => void)[] = []
const hold = () => new Promise((resolve) => held.push(resolve))

const subscription = defineStep(
  'subscription',
  { input: z.object({ plan: z.string() }) },
  async ({ plan }, ctx) => {
    for (let month = 1; month <= 12; month++) {
      await ctx.run('charge', () => count(plan))
      await ctx.sleep('month', '30 days')
    }
    return { plan, charges: ran[plan] }
  },
)
const nap = defineStep('nap', { input: z.object({ days: z.number() }) }, ({ days }, ctx) =>
  ctx.sleep('nap', days * DAY_MS),
)
const approval = defineStep('approval', {}, async (_, ctx) => {
  await ctx.run('ask', () => count('ask'))
  return ctx.waitForEvent('approved', { timeout: '7 days' })
})
const patient = defineStep('patient', {}, (_, ctx) => ctx.waitForEvent('never'))
const order = defineStep('order', { input: z.object({ id: z.string() }) }, async ({ id }, ctx) => {
  const charged = await ctx.run('charge', () => count(`charge ${id}`))
  await ctx.sleep('cool-off', '1 day')
  return { charged, mailed: await ctx.run('mail', () => count(`mail ${id}`)) }
})
const pays = defineStep('pays', { input: z.object({ id: z.string() }) }, ({ id }, ctx) =>
  ctx.run(
    'pay',
    async ({ tx }) => {
      await tx`insert into public.payments values (${id})`
      return count(`pay ${id}`)
    },
    { tx: true },
  ),
)
const busy = defineStep('busy', {}, async (_, ctx) => {
  await Promise.all([ctx.run('work', hold), ctx.sleep('pause', '10 days')])
  return ctx.attempt
})
const broken = defineStep('broken', {}, () => {
  throw new Error('no luck')
})
const changes = defineStep('changes', {}, async (_, ctx) => {
  await ctx.run(count('changes') === 1 ? 'first' : 'second', () => 1)
  await ctx.sleep('then', '1 day')
})
const both = defineStep('both', {}, (_, ctx) =>
  Promise.all([ctx.run('quick', () => count('quick')), ctx.run('slow', hold)]),
)
const works = defineStep('works', {}, hold)

const steps = [subscription, nap, approval, patient, order, pays, both, busy, broken, changes, works]
const fleet = await startTestFleet({ steps })
atEnd(() => fleet.stop())
const sql = postgres(fleet.databaseUrl, { max: 1, onnotice: () => {} })
atEnd(() => sql.end({ timeout: 1 }))
await sql`create table public.payments (id text)`

const endsOf = async (stepId: string) =>
  (await fleet.client.getStatus({ step_id: stepId })).attempts.map(({ ended }) => ended)
/** It stands still before its first checkpoint, until the clock moves. */
const FROM_TOMORROW = { delay_seconds: 86_400 }

test('a subscription of twelve months is charged twelve times, and takes no real month', async () => {
  const began = fleet.now()
  const execution = await fleet.start(subscription, { plan: 'gold' }, { id: 'sub-1' })
  assert.equal(execution.id, 'sub-1')
  const first = await execution.untilAsleep()
  assert.deepEqual([first.status, first.waitingFor], ['running', ['month']])
  assert.ok(Number(first.dueAt) >= began.getTime() + 30 * DAY_MS)
  for (let month = 1; month <= 12; month++) {
    assert.equal(ran['gold'], month)
    await execution.skipSleep()
  }
  assert.deepEqual(await execution.result(), { plan: 'gold', charges: 12 })
  assert.ok(fleet.now().getTime() >= began.getTime() + 360 * DAY_MS)
  assert.deepEqual(await execution.untilAsleep(), { status: 'completed', waitingFor: [], dueAt: null })
})

test('what is due by the time that the clock is moved to goes on, and what is due later does not', async () => {
  const [week, fortnight] = await Promise.all([
    fleet.start('nap', { days: 7 }),
    fleet.start('nap', { days: 14 }),
  ])
  const [, before] = await Promise.all([week.untilAsleep(), fortnight.untilAsleep()])
  await fleet.advance('10 days')
  assert.equal(await week.result(), null)
  assert.deepEqual(await fortnight.untilAsleep(), before)
  await fleet.advance(4 * DAY_MS)
  assert.equal(await fortnight.result(), null)
})

test('an event is sent to who waits, or before it waits; nobody has to be in time', async () => {
  const waiting = await fleet.start(approval)
  assert.deepEqual((await waiting.untilAsleep()).waitingFor, ['approved'])
  assert.equal(await waiting.send('approved', { by: 'Ada' }), true)
  assert.deepEqual(await waiting.result(), { by: 'Ada' })
  const early = await fleet.start(approval, {}, FROM_TOMORROW)
  assert.equal(await early.send('approved', { by: 'Bob' }), false)
  await early.skipSleep()
  assert.deepEqual(await early.result(), { by: 'Bob' })
})

test('to skip a wait is to let its time run out; one without an end is not skipped, and the fleet says why', async () => {
  const forAWeek = await fleet.start(approval)
  await forAWeek.skipSleep()
  await assert.rejects(
    forAWeek.result(),
    (error) => error instanceof ExecutionFailed && /no event "approved" came in time/.test(error.message),
  )
  const forEver = await fleet.start(patient, {}, { id: 'patient-1' })
  await assert.rejects(forEver.skipSleep(), /No time moves patient-1 on: it waits for never/)
  await forEver.send('never')
  await forEver.result()
  await assert.rejects(forEver.skipSleep(), /patient-1 does not sleep: it is completed/)
  await assert.rejects(forEver.crashAt('never', 'before'), /patient-1 has ended \(completed\)/)
})

test('an attempt that dies before its checkpoint is written runs the body again, one that dies after it does not', async () => {
  for (const [when, times] of [
    ['before', 2],
    ['after', 1],
  ] as const) {
    const execution = await fleet.start(order, { id: when }, FROM_TOMORROW)
    await execution.crashAt('charge', when)
    await execution.skipSleep()
    assert.equal(ran[`charge ${when}`], times)
    assert.deepEqual(await endsOf(execution.stepId), ['pod_died', 'suspended'])
    await execution.crashAt('cool-off', when)
    await execution.skipSleep()
    assert.deepEqual(await execution.result(), { charged: times, mailed: 1 })
    assert.deepEqual(await endsOf(execution.stepId), ['pod_died', 'suspended', 'pod_died', 'completed'])
  }
})

test('a body with a transaction that dies before the commit has written nothing, and one that dies after it all', async () => {
  for (const [when, times] of [
    ['before', 2],
    ['after', 1],
  ] as const) {
    const execution = await fleet.start(pays, { id: when }, FROM_TOMORROW)
    await execution.crashAt('pay', when)
    await fleet.advance('1 day')
    assert.equal(await execution.result(), times)
    assert.equal((await sql`select from public.payments where id = ${when}`).length, 1)
    assert.deepEqual(await endsOf(execution.stepId), ['pod_died', 'completed'])
  }
})

test('a crash at a checkpoint that the execution never comes to fails the test that asked for it', async () => {
  const execution = await fleet.start(order, { id: 'misspelt' }, FROM_TOMORROW)
  await execution.crashAt('chrage', 'before')
  await execution.skipSleep()
  await execution.skipSleep()
  await assert.rejects(execution.result(), /did not come to "chrage".*Its checkpoints: charge, cool-off/)
})

test('what an attempt still does after its death is written nowhere', async () => {
  const execution = await fleet.start(both, {}, FROM_TOMORROW)
  await execution.crashAt('quick', 'before')
  await fleet.advance('1 day')
  await until('the second attempt to hold', () => held.length === 2)
  const [ofTheDead, ofTheLiving] = held.splice(0)
  ofTheDead?.('dead')
  ofTheLiving?.('living')
  assert.deepEqual(await execution.result(), [2, 'living'])
})

test('the history has what the door shows of each checkpoint', async () => {
  const execution = await fleet.start(order, { id: 'history' })
  const { dueAt } = await execution.untilAsleep()
  const history = await execution.history()
  assert.deepEqual(
    history.map(({ name, kind, status, result }) => ({ name, kind, status, result })),
    [
      { name: 'charge', kind: 'run', status: 'completed', result: 1 },
      { name: 'cool-off', kind: 'sleep', status: 'open', result: null },
    ],
  )
  assert.equal(history[1]?.due_at, dueAt?.toISOString())
})

test('an execution that failed throws its reason; while it waits for another attempt it is at rest', async () => {
  const execution = await fleet.start(
    broken,
    {},
    { id: 'broken-1', max_retries: 1, retry: { base_ms: 300_000 } },
  )
  const { dueAt, waitingFor } = await execution.untilAsleep()
  assert.ok(dueAt !== null && dueAt > fleet.now())
  assert.deepEqual(waitingFor, [])
  await execution.skipSleep()
  await assert.rejects(execution.result(), {
    name: 'ExecutionFailed',
    status: 'failed',
    message: 'broken-1 failed: no luck',
  })
})

test('an execution whose code has changed is parked, and at rest', async () => {
  const execution = await fleet.start(changes)
  await execution.untilAsleep()
  const { dueAt } = await execution.skipSleep()
  assert.equal(dueAt, null)
  const { attention } = await fleet.client.getExecution({ execution_id: execution.id })
  assert.match(attention ?? '', /asks for "second" where it asked for "first" before/)
})

test('years that pass in a moment make nobody look dead: pods, their leader and what they run live on', async () => {
  const leader = async () => (await fleet.client.getLeader()).election_details.term
  const running = await fleet.start(works)
  await until('it to run', () => held.length === 1)
  const term = await leader()
  assert.ok(term !== undefined)
  for (let year = 1; year <= 3; year++) await fleet.advance('365 days')
  held.splice(0)[0]?.('at last')
  assert.equal(await running.result(), 'at last')
  assert.deepEqual(await endsOf(running.stepId), ['completed'])
  assert.equal(await leader(), term)
  const [pod, ...others] = (await fleet.client.listPods()).pods
  assert.equal(others.length, 0)
  assert.ok((pod?.silent_seconds ?? Number.POSITIVE_INFINITY) < DAY_MS / 1000)
})

test('an execution that is busy while the clock jumps does not sleep through that time once more', async () => {
  const execution = await fleet.start(busy)
  await until('one part to sleep, the other to run', async () => {
    const history = await execution.history()
    return held.length === 1 && history.some(({ name }) => name === 'pause')
  })
  await fleet.advance('10 days')
  held.splice(0)[0]?.(1)
  assert.equal(await execution.result(), 1)
})

test('time goes forward, by a span, and for ten years at most', async () => {
  await assert.rejects(fleet.advance(-1), /a clock goes forward/)
  await assert.rejects(fleet.advance('a while'), /is no span of time/)
  const before = fleet.now()
  await assert.rejects(fleet.advance('3650 days'), /may be 3650 days ahead, no more/)
  assert.ok(fleet.now().getTime() - before.getTime() < DAY_MS)
})

test('on a database that is not its own a test fleet moves no clock', async () => {
  const db = await testDatabase()
  const guest = await startTestFleet({ steps: [nap], databaseUrl: db.url })
  atEnd(() => guest.stop())
  const execution = await guest.start(nap, { days: 1 })
  assert.deepEqual((await execution.untilAsleep()).waitingFor, ['nap'])
  await assert.rejects(guest.advance('1 day'), /this one is yours/)
  await assert.rejects(execution.skipSleep(), /Leave databaseUrl out/)
  const [clock] = await db.sql<{ body: string }[]>`select prosrc as body from pg_proc where proname = 'clock'`
  assert.equal(clock?.body, 'select now()')
})
