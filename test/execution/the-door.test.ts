import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { z } from 'zod'
import { createClient, FleetQError } from '../../src/client.ts'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { call, get, post } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

let openGate = () => {}
const gate = new Promise<void>((resolve) => (openGate = resolve))
let undone = () => {}
const undoing = new Promise<void>((resolve) => (undone = resolve))
const steps = [
  defineStep('order', { input: z.object({ amount: z.number().optional() }) }, async (args, ctx) => {
    const charge = await ctx.run('charge', () => ({ paid: args.amount }))
    const approval = await ctx.waitForEvent('approved', { timeout: '1 hour' })
    return { charge, approval }
  }),
  defineStep('quick', {}, () => 'done'),
  defineStep('undoes-slowly', {}, async (_, ctx) => {
    await ctx.onFailure('slowly', () => undoing)
    await ctx.sleep('long', '1 hour')
  }),
  defineStep('breaks', {}, () => {
    throw new Error('no luck')
  }),
  defineStep('gated', {}, () => gate),
  defineStep('family', {}, async (_, ctx) => {
    const child = await ctx.submit('child', { type: 'gated' })
    const alone = await ctx.submit('alone', { type: 'gated', detached: true })
    await ctx.run('told', () => ({ child: child.stepId, alone: alone.stepId }))
    return child.result()
  }),
]
const db = await testDatabase()
const pod = await startTestPod(db.url, steps)
const client = createClient({ baseUrl: pod.url })
const AT = '/api/v1'

const start = (body: object) => post(pod.url, `${AT}/executions`, body)
const show = async (id: string) => (await get(pod.url, `${AT}/executions/${id}`)).body
const waiting = (id: string, name: string) =>
  until(`${id} to wait for ${name}`, async () => {
    const { waiting_for } = await client.getExecution({ execution_id: id })
    return (
      (await client.why({ step_id: String((await show(id))['step_id']) })).reason === 'waiting' &&
      waiting_for.includes(name)
    )
  })

describe('the executions door', () => {
  test('starts an execution once for each id: 201, and then 200 with the same', async () => {
    const first = await start({ execution_id: 'order-1', task_name: 'order', payload: { amount: 5 } })
    assert.equal(first.status, 201)
    assert.equal(first.body['execution_id'], 'order-1')
    const again = await start({ executionId: 'order-1', taskName: 'quick' })
    assert.equal(again.status, 200)
    assert.equal(again.body['task_name'], 'order')
    const both = await Promise.all(
      Array.from({ length: 5 }, () => start({ execution_id: 'one', task_name: 'quick' })),
    )
    assert.deepEqual(
      both.map(({ status }) => status).toSorted((a, b) => a - b),
      [200, 200, 200, 200, 201],
    )
    assert.equal(new Set(both.map(({ body }) => body['step_id'])).size, 1)
    const unnamed = await start({ task_name: 'quick' })
    assert.equal(unnamed.body['execution_id'], unnamed.body['step_id'])
  })

  test('tells where an execution stands, its checkpoints and what it waits for', async () => {
    await start({ execution_id: 'order-2', task_name: 'order', payload: { amount: 7 } })
    await waiting('order-2', 'approved')
    const execution = await client.getExecution({ execution_id: 'order-2' })
    assert.equal(execution.status, 'running')
    assert.equal(execution.outcome, 'queued')
    assert.deepEqual(
      execution.steps.map(({ name, kind, status, result }) => ({ name, kind, status, result })),
      [
        { name: 'charge', kind: 'run', status: 'completed', result: { paid: 7 } },
        { name: 'approved', kind: 'event', status: 'open', result: null },
      ],
    )
    assert.ok(execution.scheduled_at !== null && execution.started_at !== null)
  })

  test('an event is accepted with 202 and wakes who waits for it; the wait then answers 200', async () => {
    await start({ execution_id: 'order-3', task_name: 'order', payload: { amount: 7 } })
    await waiting('order-3', 'approved')
    const slow = await get(pod.url, `${AT}/executions/order-3/wait?timeout_secs=0.2`)
    assert.equal(slow.status, 504)
    assert.equal(slow.body['error'], "execution 'order-3' did not complete within 0.2s")
    const ended = get(pod.url, `${AT}/executions/order-3/wait?timeoutSecs=30`)
    const sent = await post(pod.url, `${AT}/events/order-3/approved`, { by: 'ada' })
    assert.deepEqual(
      [sent.status, sent.body],
      [202, { execution_id: 'order-3', event_name: 'approved', delivered: true }],
    )
    const { status, body } = await ended
    assert.equal(status, 200)
    assert.deepEqual(body['result'], { charge: { paid: 7 }, approval: { by: 'ada' } })
    assert.equal(body['status'], 'completed')
    assert.equal(body['outcome'], 'success')
  })

  test('an event before the wait is kept, the first of two is taken, and a third finds nobody', async () => {
    const ids = { execution_id: 'order-4', event_name: 'approved' }
    await db.sql`insert into fleet_q.pauses (type) values ('order')`
    await start({ execution_id: 'order-4', task_name: 'order' })
    assert.equal((await client.sendEvent({ ...ids, payload: 1 })).delivered, false)
    assert.equal((await client.sendEvent({ ...ids, payload: 2 })).delivered, false)
    await db.sql`delete from fleet_q.pauses`
    const { result } = await client.waitForExecution({ execution_id: 'order-4' })
    assert.deepEqual(result, { charge: {}, approval: 1 })
    const late = await post(pod.url, `${AT}/events/order-4/approved`, 3)
    assert.equal(late.status, 409)
    assert.match(String(late.body['detail']), /has ended \(completed\): nobody would read/)
  })

  test('what is not there is 404, in the words of the seed', async () => {
    for (const [method, path] of [
      ['GET', 'executions/nobody'],
      ['POST', 'executions/nobody/cancel'],
      ['GET', 'executions/nobody/wait'],
      ['POST', 'events/nobody/approved'],
      ['GET', 'executions/step_20260101000000_000000000000zz'],
    ] as const) {
      const { status, body } = await call(pod.url, method, `${AT}/${path}`)
      assert.equal(status, 404, path)
      assert.match(String(body['error']), /^execution '.*' not found/)
    }
  })

  test('a cancel reaches what sleeps and what it has submitted, but for what is detached', async () => {
    await start({ execution_id: 'family', task_name: 'family' })
    await until(
      'both to be submitted',
      async () => (await client.getExecution({ execution_id: 'family' })).steps.length >= 3,
    )
    const { steps: checkpoints } = await client.getExecution({ execution_id: 'family' })
    const told = checkpoints.find(({ name }) => name === 'told')?.result as { child: string; alone: string }
    const cancelled = await call(pod.url, 'POST', `${AT}/executions/family/cancel`)
    assert.equal(cancelled.status, 200)
    assert.equal(cancelled.body['status'], 'cancelled')
    assert.equal((await client.getStatus({ step_id: told.child })).status, 'cancelled')
    assert.equal((await client.getStatus({ step_id: told.alone })).status, 'claimed')
    await start({ execution_id: 'minimal', task_name: 'gated' })
    const minimal = await call(pod.url, 'POST', `${AT}/executions/minimal/cancel`, undefined, {
      prefer: 'return=minimal',
    })
    assert.deepEqual([minimal.status, minimal.body], [204, {}])
    assert.equal((await call(pod.url, 'POST', `${AT}/executions/minimal/cancel`)).status, 409)
    openGate()
  })

  test('the answer to a cancel tells when it was cancelled, also where something is undone first', async () => {
    const execution_id = 'undoes-slowly'
    await start({ execution_id, task_name: execution_id })
    await until('it to sleep', async () =>
      (await client.getExecution({ execution_id })).waiting_for.includes('long'),
    )
    const before = (await db.sql<{ now: Date }[]>`select clock_timestamp() as now`)[0]?.now ?? new Date()
    const { cancelled_at } = await client.cancelExecution({ execution_id })
    assert.ok(
      new Date(cancelled_at) >= new Date(before.getTime() - 1),
      `${cancelled_at}, ${before.toISOString()}`,
    )
    undone()
    assert.equal((await client.waitForExecution({ execution_id })).status, 'cancelled')
  })

  test('lists by status and task, page by page', async () => {
    await start({ execution_id: 'broken', task_name: 'breaks', max_retries: 0 })
    await client.waitForExecution({ execution_id: 'broken' })
    assert.deepEqual(
      (await client.listExecutions({ status: 'failed' })).map(({ execution_id }) => execution_id),
      ['broken'],
    )
    assert.ok(
      (await client.listExecutions({ status: 'running' })).some(
        ({ execution_id }) => execution_id === 'order-2',
      ),
    )
    const all = await client.listExecutions({ limit: 1000 })
    const paged: unknown[] = []
    for (let path: string | undefined = `${AT}/executions?limit=3`; path;) {
      const { headers, body } = await get(pod.url, path)
      paged.push(...Object.values(body).map((each) => (each as { step_id: string }).step_id))
      path = /<([^>]+)>; rel="next"/.exec(headers.get('link') ?? '')?.[1]
    }
    assert.deepEqual(
      paged,
      all.map(({ step_id }) => step_id),
    )
    assert.equal((await client.listExecutions({ limit: 2, offset: 2 }))[0]?.step_id, all[2]?.step_id)
  })

  test('counts them', async () => {
    const stats = await client.getStats()
    const listed = await client.listExecutions({ limit: 1000 })
    assert.equal(stats.total, listed.length)
    for (const status of ['scheduled', 'running', 'completed', 'failed', 'cancelled'] as const)
      assert.equal(stats[status], listed.filter((execution) => execution.status === status).length, status)
  })

  test('input that does not fit the handler is refused, and nothing is started or run again with it', async () => {
    const payload = { amount: 'five' }
    const refused = await start({ execution_id: 'order-bad', task_name: 'order', payload })
    assert.equal(refused.status, 400)
    assert.match(String(refused.body['detail']), /payload\.amount: .* Nothing was stored/)
    assert.equal((await get(pod.url, `${AT}/executions/order-bad`)).status, 404)
    await start({ execution_id: 'order-good', task_name: 'order' })
    const rerun = await post(pod.url, `${AT}/executions/order-good/rerun`, { payload })
    assert.equal(rerun.status, 400)
    await client.cancelExecution({ execution_id: 'order-good' })
  })

  test('what is wrong with a request is named', async () => {
    for (const [body, words] of [
      [{}, /task_name is missing/],
      [{ task_name: 'quick', execution_id: 'step_mine' }, /may not begin with step_/],
      [{ task_name: 'quick', taskName: 'quick' }, /taskName is the same as task_name/],
      [{ task_name: 'quick', payload: 7 }, /payload must be an object/],
    ] as const) {
      const reply = await start(body)
      assert.equal(reply.status, 400)
      assert.match(String(reply.body['detail']), words)
    }
    await assert.rejects(client.sendEvent({ execution_id: 'nobody', event_name: 'a' }), FleetQError)
  })

  test('liveness is a word, and the prefix is a setting', async () => {
    const alive = await fetch(`${pod.url}/healthz`)
    assert.deepEqual([alive.status, await alive.text()], [200, 'ok'])
    const other = await startTestPod(db.url, steps, { FLEET_Q_API_PREFIX: '/durable' })
    assert.equal((await get(other.url, '/durable/executions/order-1')).status, 200)
    assert.equal((await get(other.url, '/api/v1/executions/order-1')).status, 404)
  })
})
