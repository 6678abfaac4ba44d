import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { z } from 'zod'
import { createClient } from '../../src/client.ts'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

/** How often each body ran, by execution. */
const ran = new Map<string, number>()
const count = (key: string) => {
  ran.set(key, (ran.get(key) ?? 0) + 1)
  return ran.get(key) ?? 0
}
/** What is out of order until somebody mends it. */
const broken = new Set<string>()
let code: 'old' | 'new' = 'old'

const db = await testDatabase()
const pod = await startTestPod(db.url, [
  defineStep('order', { input: z.object({ amount: z.number().default(1) }) }, async ({ amount }, ctx) => {
    const id = String(ctx.metadata['id'])
    const charge = await ctx.run('charge', () => count(`${id} charge`))
    const approval = await ctx.waitForEvent('approved')
    for (const _ of [1, 2]) await ctx.run('pack', () => count(`${id} pack`))
    const child = await ctx.submit('invoice', { type: 'invoice', args: { id } })
    const invoice = await child.result()
    await ctx.run('mail', () => {
      if (broken.has(id)) throw new Error('the mail server is down')
      return count(`${id} mail`)
    })
    return { amount, charge, approval, invoice }
  }),
  defineStep('invoice', { input: z.object({ id: z.string() }) }, ({ id }) => count(`${id} invoice`)),
  defineStep('changes', {}, async (_, ctx) => {
    await ctx.run(code === 'old' ? 'charge' : 'charge-card', () => 1)
    await ctx.waitForEvent('go')
    return 'went'
  }),
  defineStep('undoes', {}, async (_, ctx) => {
    await ctx.run('book', () => count('book'))
    await ctx.onFailure('unbook', () => void count('unbook'))
    if (broken.has('undoes')) throw new Error('no room')
    return ran.get('book')
  }),
  defineStep('waits-for-child', {}, async (_, ctx) => {
    const child = await ctx.submit('slow', { type: 'undecided' })
    return child.result()
  }),
  defineStep('strict', {}, async (_, ctx) => {
    await ctx.run('book', () => count('strict book'))
    await ctx.onFailure('unbook', () => void count('strict unbook'))
    const { by } = await ctx.waitForEvent('approved', { schema: z.object({ by: z.string() }) })
    return by
  }),
  defineStep('undecided', {}, (_, ctx) => ctx.waitForEvent('decided')),
])
const client = createClient({ baseUrl: pod.url })

const start = (execution_id: string, task_name: string, payload = {}) =>
  client.startExecution({ execution_id, task_name, payload, metadata: { id: execution_id }, max_retries: 0 })
const ended = (execution_id: string) => client.waitForExecution({ execution_id })
/** Without a pod: the attempt that begins to wait takes an event that comes at once, and is not replayed. */
const asleep = (execution_id: string, over: string) =>
  until('it to wait without a slot', async () => {
    const { worker_id, waiting_for } = await client.getExecution({ execution_id })
    return worker_id === null && waiting_for.includes(over)
  })
const times = (id: string) =>
  Object.fromEntries(
    ['charge', 'pack', 'invoice', 'mail'].map((name) => [name, ran.get(`${id} ${name}`) ?? 0]),
  )

/** An order that failed at its mail. */
async function failed(id: string) {
  broken.add(id)
  await start(id, 'order')
  await client.sendEvent({ execution_id: id, event_name: 'approved', payload: 'by Ada' })
  assert.equal((await ended(id)).status, 'failed')
  broken.delete(id)
}

describe('an execution that failed', () => {
  test('goes on at what failed when it is retried, and does nothing else again', async () => {
    await failed('at-failure')
    await client.retryExecution({ execution_id: 'at-failure' })
    const { result } = await ended('at-failure')
    assert.deepEqual(result, { amount: 1, charge: 1, approval: 'by Ada', invoice: 1 })
    assert.deepEqual(times('at-failure'), { charge: 1, pack: 2, invoice: 1, mail: 1 })
  })

  test('goes on from a checkpoint by its name: that and what followed is done again, its events are read again', async () => {
    await failed('from-event')
    await client.retryExecution({
      execution_id: 'from-event',
      from: 'approved',
      reason: 'packed the wrong thing',
    })
    const { result } = await ended('from-event')
    assert.deepEqual(result, { amount: 1, charge: 1, approval: 'by Ada', invoice: 2 })
    assert.deepEqual(times('from-event'), { charge: 1, pack: 4, invoice: 2, mail: 1 })
  })

  test('asks which of several is meant', async () => {
    await failed('which')
    await assert.rejects(
      client.retryExecution({ execution_id: 'which', from: 'pack' }),
      /came by "pack" 2 times/,
    )
    await assert.rejects(
      client.retryExecution({ execution_id: 'which', from: 'paint' }),
      /remembers nothing of the name "paint"/,
    )
    await client.retryExecution({ execution_id: 'which', from: 'pack', number: 2 })
    await ended('which')
    assert.deepEqual(times('which'), { charge: 1, pack: 3, invoice: 2, mail: 1 })
  })

  test('begins at the top when it is restarted, and its history keeps what it remembered', async () => {
    await failed('restarted')
    await client.restartExecution({ execution_id: 'restarted' })
    assert.deepEqual((await ended('restarted')).result, {
      amount: 1,
      charge: 2,
      approval: 'by Ada',
      invoice: 2,
    })
    const { put_aside, steps, events, attempts } = await client.getHistory({ execution_id: 'restarted' })
    const [before] = put_aside
    assert.deepEqual(
      before?.steps.map(({ name, status }) => `${name} ${status}`),
      [
        ...['charge', 'approved', 'pack', 'pack', 'invoice', 'invoice/result'].map(
          (name) => `${name} completed`,
        ),
        'mail failed',
      ],
    )
    assert.equal(put_aside.length, 1)
    assert.equal(steps.length, 7)
    assert.deepEqual(
      events.map(({ event_name, taken_by }) => [event_name, taken_by]),
      [['approved', 1]],
    )
    assert.ok(attempts.some(({ ended: how }) => how === 'failed'))
    assert.equal(attempts.at(-1)?.ended, 'completed')
  })

  test('and has undone what it did begins at the top, for nothing of it stands any more', async () => {
    broken.add('undoes')
    await start('undone', 'undoes')
    assert.equal((await ended('undone')).status, 'failed')
    assert.equal(ran.get('unbook'), 1)
    await assert.rejects(
      client.retryExecution({ execution_id: 'undone', from: 'book' }),
      /has been undone, so it cannot go on in the middle\. Restart it/,
    )
    broken.delete('undoes')
    await client.retryExecution({ execution_id: 'undone' })
    assert.equal((await ended('undone')).result, 2)
  })
})

test('a parked execution goes on when there is code that fits', async () => {
  await start('parked', 'changes')
  await asleep('parked', 'go')
  code = 'new'
  await client.sendEvent({ execution_id: 'parked', event_name: 'go', payload: null })
  await until(
    'it to be parked',
    async () => (await client.getExecution({ execution_id: 'parked' })).attention,
  )
  code = 'old'
  const listed = await client.listExecutions({ task_name: 'changes' })
  assert.deepEqual(
    listed.map(({ attention, waiting_for }) => [/asks for/.test(String(attention)), waiting_for]),
    [[true, ['go']]],
    'a list tells it too',
  )
  await client.retryExecution({ execution_id: 'parked' })
  assert.equal((await ended('parked')).result, 'went')
})

test('a completed one is rerun instead: another execution, with the same input or an edited one', async () => {
  await start('bought', 'order', { amount: 3 })
  await client.sendEvent({ execution_id: 'bought', event_name: 'approved', payload: 1 })
  await ended('bought')
  await assert.rejects(client.retryExecution({ execution_id: 'bought' }), /is completed; rerun it/)
  await assert.rejects(client.restartExecution({ execution_id: 'bought' }), /is completed; rerun it/)
  const same = await client.rerunExecution({ execution_id: 'bought' })
  assert.equal(same.rerun_of, 'bought')
  assert.deepEqual(same.payload, { amount: 3 })
  await assert.rejects(
    client.rerunExecution({ execution_id: 'bought', new_execution_id: 'bought' }),
    /There is an execution "bought" already/,
  )
  const edited = await client.rerunExecution({
    execution_id: 'bought',
    new_execution_id: 'bought-more',
    payload: { amount: 30 },
  })
  assert.deepEqual([edited.execution_id, edited.payload], ['bought-more', { amount: 30 }])
  await client.sendEvent({ execution_id: same.execution_id, event_name: 'approved', payload: 2 })
  assert.deepEqual((await ended(same.execution_id)).result, { amount: 3, charge: 2, approval: 2, invoice: 2 })
  const { reruns } = await client.getHistory({ execution_id: 'bought' })
  assert.deepEqual(reruns, [same.execution_id, 'bought-more'])
})

test('what was cancelled with it comes back with it', async () => {
  await start('family', 'waits-for-child')
  await until(
    'it to wait for its child',
    async () => (await client.getExecution({ execution_id: 'family' })).waiting_for.length > 0,
  )
  await client.cancelExecution({ execution_id: 'family' })
  await client.retryExecution({ execution_id: 'family' })
  const { waiting_for } = await until('it to wait again', async () => {
    const execution = await client.getExecution({ execution_id: 'family' })
    return execution.waiting_for.length > 0 && execution
  })
  const [child] = waiting_for
  assert.ok(child !== undefined)
  await client.sendEvent({ execution_id: child, event_name: 'decided', payload: 'yes' })
  assert.equal((await ended('family')).result, 'yes')
})

test('one that runs is not sent back under its pod', async () => {
  await start('runs', 'undecided')
  await asleep('runs', 'decided')
  await client.pauseExecution({ execution_id: 'runs' })
  await client.sendEvent({ execution_id: 'runs', event_name: 'decided', payload: 'yes' })
  const { step_id } = await client.getExecution({ execution_id: 'runs' })
  await until(
    'the pause to hold it',
    async () =>
      (await client.why({ step_id })).reason === 'paused' &&
      (await client.getStatus({ step_id })).tray === 'held',
  )
  await client.restartExecution({ execution_id: 'runs' })
  await client.resumeExecution({ execution_id: 'runs' })
  assert.equal((await ended('runs')).result, 'yes')
})

test('an event that does not fit lies there again after a retry, unless it is dropped', async () => {
  const execution_id = 'strict-1'
  const send = (payload: object) => client.sendEvent({ execution_id, event_name: 'approved', payload })
  await start(execution_id, 'strict')
  await send({ By: 'Ada' })
  assert.match((await ended(execution_id)).error?.message ?? '', /does not fit: by/)

  await client.retryExecution({ execution_id })
  assert.match((await ended(execution_id)).error?.message ?? '', /does not fit: by/)

  await client.retryExecution({ execution_id, drop_events: ['approved'] })
  await until('it to wait', async () => (await client.getExecution({ execution_id })).waiting_for.length > 0)
  await send({ by: 'Ada' })
  const { status, result } = await ended(execution_id)
  assert.deepEqual(
    [status, result, ran.get('strict book'), ran.get('strict unbook')],
    ['completed', 'Ada', 3, 2],
  )
})
