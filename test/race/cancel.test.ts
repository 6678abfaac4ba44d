import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as rest } from 'node:timers/promises'
import { z } from 'zod'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { get, post, submit } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'
import { holdClaimsOf } from './hold.ts'

/** Cancel, completion and time limit at one moment: one of them decides, and everybody is told the same. */

interface Run {
  finish: () => void
  reason: Promise<unknown>
  startedAt: number
}
const runs = new Map<string, Run>()
const started = (stepId: string) => until(`${stepId} to start`, () => runs.get(stepId))

/** Why its handler is to stop, as it was told. */
async function told(run: { reason: Promise<unknown> }): Promise<unknown> {
  let heard: { reason: unknown } | undefined
  void run.reason.then((reason) => (heard = { reason }))
  return (await until('the handler to be told', () => heard)).reason
}

/** Runs until the test lets it finish; whether it listens to its signal is its argument. */
const gated = (type: string, concurrency?: number) =>
  defineStep(
    type,
    { input: z.object({ deaf: z.boolean().default(false) }), ...(concurrency ? { concurrency } : {}) },
    ({ deaf }, ctx) =>
      new Promise((resolve, reject) => {
        const reason = new Promise<unknown>((tell) =>
          ctx.signal.addEventListener('abort', () => {
            tell(ctx.signal.reason)
            if (!deaf) reject(ctx.signal.reason as Error)
          }),
        )
        runs.set(ctx.stepId, { finish: () => resolve({ done: true }), reason, startedAt: performance.now() })
      }),
  )

const db = await testDatabase()
// A heart that does not beat while anybody waits here: what is heard was told by a hint.
const SLOW = {
  FLEET_Q_HEARTBEAT_SECONDS: '300',
  FLEET_Q_DEAD_AFTER_SECONDS: '1000',
  FLEET_Q_STALL_SECONDS: '1000',
}
const holder = await startTestPod(db.url, [gated('gated'), gated('single', 1)], SLOW)
const other = await startTestPod(db.url, [], SLOW)

const settled = (id: string) =>
  until(`${id} to settle`, async () => {
    const { body } = await get(other.url, `/status/${id}`)
    return body['tray'] === 'settled' && body
  })
/** Nobody has a claim left: whatever was to be handed in has been. */
const handedIn = () =>
  until('every claim to end', async () => (await db.sql`select 1 from fleet_q.claims`).length === 0)
const whyOf = (reason: unknown) => (reason as { why?: string }).why

test('cancel against completion, a hundred times: one outcome, and both replies agree with it', async () => {
  const replies = { 200: 0, 409: 0 }
  const rounds = Array.from({ length: 100 }, async (_, round) => {
    const id = await submit(holder.url, { type: 'gated', args: { deaf: round % 8 < 4 }, max_retries: 0 })
    const run = await started(id)
    const by = round % 3 === 0 ? holder : other
    const cancel = () => post(by.url, `/steps/${id}/cancel`)
    const { status, body } = await race(round, run.finish, cancel, () => settled(id))
    assert.ok(status === 200 || status === 409, JSON.stringify(body))
    replies[status]++
    const end = await settled(id)
    if (status === 200) assert.equal(end['status'], 'cancelled')
    else {
      assert.equal(end['status'], 'completed')
      assert.match(String(body['detail']), /is completed already/)
    }
    return { id, end: end['status'] }
  })
  const ends = await Promise.all(rounds)
  await handedIn()
  // What was handed in afterwards changed nothing.
  for (const { id, end } of ends) {
    const { body } = await get(other.url, `/status/${id}`)
    assert.equal(body['status'], end)
    assert.equal(body['result'] === null, end === 'cancelled')
  }
  assert.ok(replies[200] >= 25 && replies[409] >= 25, JSON.stringify(replies))
})

/** Half of them race, as far as the machine lets them; of the others it is known who was first. */
async function race(
  round: number,
  finish: () => void,
  cancel: () => ReturnType<typeof post>,
  settled: () => Promise<unknown>,
) {
  const kind = round % 4
  if (kind === 0) {
    const reply = await cancel()
    finish()
    return reply
  }
  if (kind === 1) {
    finish()
    await settled()
    return cancel()
  }
  if (kind === 2) finish()
  const cancelling = cancel()
  // A hundred cancels share a few connections: the last of them comes late.
  if (kind === 3) setTimeout(finish, (round % 20) * 15)
  return cancelling
}

test('cancel against the time limit: the step ends as cancelled or as failed, as the reply said', async () => {
  const rounds = Array.from({ length: 24 }, async (_, round) => {
    const id = await submit(holder.url, {
      type: 'gated',
      args: { deaf: round % 2 === 0 },
      max_retries: 0,
      timeout_seconds: 0.2,
    })
    const run = await started(id)
    // Around the moment when the limit strikes, and around that when a deaf handler is given up.
    const momentMs = (round % 4 < 2 ? 200 : 1000) - 12 + round
    await new Promise((resolve) => setTimeout(resolve, momentMs - (performance.now() - run.startedAt)))
    const { status } = await post(other.url, `/steps/${id}/cancel`)
    const end = await settled(id)
    assert.equal(end['status'], status === 200 ? 'cancelled' : 'failed')
    run.finish()
    return { id, end: end['status'] }
  })
  const ends = await Promise.all(rounds)
  await handedIn()
  for (const { id, end } of ends) assert.equal((await get(other.url, `/status/${id}`)).body['status'], end)
})

test('a running handler is told at once that its step is cancelled, whichever pod was asked', async () => {
  for (const asked of [holder, other]) {
    const id = await submit(holder.url, { type: 'gated' })
    const run = await started(id)
    assert.equal((await post(asked.url, `/steps/${id}/cancel`)).status, 200)
    assert.equal(whyOf(await told(run)), 'cancelled')
  }
})

test('a step that is claimed at the moment of its cancel never completes, and its handler is told at once', async () => {
  const held = await holdClaimsOf(db, holder)
  const id = await submit(other.url, { type: 'gated' })
  await held.caught()
  const { status, body } = await post(other.url, `/steps/${id}/cancel`)
  assert.equal(status, 200)
  await held.release()
  const run = await started(id)
  assert.equal(whyOf(await told(run)), 'cancelled')
  assert.doesNotMatch(String(body['message']), /will not start/)
  await handedIn()
  assert.equal((await get(other.url, `/status/${id}`)).body['status'], 'cancelled')
})

test('a step that waits for its turn on a pod does not start there after its cancel', async () => {
  const batch = await post(holder.url, '/submit/batch', {
    steps: [1, 2, 3].map(() => ({ type: 'single', args: {} })),
  })
  const ids = batch.body['step_ids'] as string[]
  const first = await until('one to start', () => ids.find((id) => runs.has(id)))
  const [next, last] = ids.filter((id) => id !== first)
  await until('the others to be claimed, waiting for their turn', async () => {
    const { body } = await get(other.url, `/status/${last}`)
    return body['tray'] === 'claimed'
  })
  assert.equal((await post(other.url, `/steps/${next}/cancel`)).status, 200)
  await until(
    'the pod to let go of it',
    async () =>
      (
        await db.sql`select 1 from fleet_q.attempts where ended = 'released'
    and ${next ?? ''} = (select fleet_q.step_public_id(id, salt, created_at) from fleet_q.steps where id = step_id)`
      ).length,
  )
  runs.get(first)?.finish()
  const run = await started(String(last))
  assert.equal(runs.has(String(next)), false, 'a cancelled step was started')
  run.finish()
  await handedIn()
  assert.equal((await get(other.url, `/status/${next}`)).body['status'], 'cancelled')
})

test('what a cancelled step leaves behind does not come back when it is tried again', async () => {
  // Its attempt fails at the moment of the cancel, with another attempt to come in a while.
  const id = await submit(holder.url, {
    type: 'gated',
    args: { deaf: true },
    timeout_seconds: 0.1,
    retry: { strategy: 'fixed', base_ms: 3_600_000 },
  })
  const run = await started(id)
  await run.reason
  assert.equal((await post(other.url, `/steps/${id}/cancel`)).status, 200)
  await handedIn()
  run.finish()
  runs.delete(id)
  assert.equal((await post(other.url, `/steps/${id}/retry`)).status, 200)
  await started(id)
  const trays = await db.sql`
    select step_id from fleet_q.later union all select step_id from fleet_q.ready`
  assert.equal(trays.length, 0, 'it lies in a tray and runs as well')
  runs.get(id)?.finish()
  assert.equal((await settled(id))['status'], 'completed')
})

test('a bulk cancel during load: what it counts is cancelled, what it missed completes, and nothing is both', async () => {
  // A batch takes them a tenth of a second: with nothing to do they had ended all, fifty times over, before a cancel looked.
  const free = defineStep('quick', {}, () => rest(5).then(() => ({ ok: true })))
  const pods = [await startTestPod(db.url, [free]), await startTestPod(db.url, [free])]
  const [first] = pods
  assert.ok(first)
  const ids: string[] = []
  const completed = async () => {
    const [row] = await db.sql<{ n: number }[]>`
      select count(*)::int as n from fleet_q.outcomes join fleet_q.steps on steps.id = step_id
      join fleet_q.lanes on lanes.id = lane_id where type = 'quick' and status = 'completed'`
    return row?.n ?? 0
  }
  const submitSome = async () => {
    const steps = Array.from({ length: 300 }, () => ({ type: 'quick', args: {} }))
    const reply = await post(first.url, '/submit/batch', { steps })
    ids.push(...(reply.body['step_ids'] as string[]))
  }
  let changed = 0
  for (let round = 0; round < 5; round++) {
    const before = await completed()
    await submitSome()
    await until('some to complete', async () => (await completed()) > before)
    const [reply] = await Promise.all([
      post(other.url, '/steps/cancel', { filter: { type: 'quick' }, dry_run: false, limit: 10_000 }),
      submitSome(),
    ])
    changed += Number(reply.body['changed'])
  }
  await until('all to settle', async () => {
    const [row] = await db.sql<{ n: number }[]>`
      select count(*)::int as n from fleet_q.steps join fleet_q.lanes on lanes.id = lane_id
      where type = 'quick' and not exists (select from fleet_q.outcomes where step_id = steps.id)`
    return row?.n === 0
  })
  await handedIn()
  const [counts] = await db.sql<{ cancelled: number; completed: number; with_result: number }[]>`
    select count(*) filter (where status = 'cancelled')::int as cancelled,
      count(*) filter (where status = 'completed')::int as completed,
      count(*) filter (where status = 'cancelled' and result is not null)::int as with_result
    from fleet_q.outcomes join fleet_q.steps on steps.id = step_id join fleet_q.lanes on lanes.id = lane_id
    where type = 'quick'`
  assert.deepEqual(counts, { cancelled: changed, completed: ids.length - changed, with_result: 0 })
  assert.ok(changed > 0 && changed < ids.length, `no race: ${changed} of ${ids.length} were cancelled`)
})

test('cancelled steps in front of a live one hold it up for a moment, not for a rest each few', async () => {
  const front = { behind: 1000, 'behind-limited': 200 }
  const types = Object.keys(front)
  const pod = await startTestPod(
    db.url,
    types.map((type) => defineStep(type, {}, () => ({ ok: true }))),
  )
  await post(pod.url, '/admin/limits', { type: 'behind-limited', max_running: 1 })
  for (const [type, count] of Object.entries(front)) {
    await post(pod.url, '/admin/pause', { type })
    await post(pod.url, '/submit/batch', { steps: Array.from({ length: count }, () => ({ type, args: {} })) })
    const { body } = await post(pod.url, '/steps/cancel', { filter: { type }, dry_run: false, limit: 10_000 })
    assert.equal(body['changed'], count)
    const id = await submit(pod.url, { type })
    const begun = performance.now()
    await post(pod.url, '/admin/resume', { type })
    assert.equal((await settled(id))['status'], 'completed')
    assert.ok(performance.now() - begun < 6000, `a ${type} step waited ${performance.now() - begun} ms`)
  }
})
