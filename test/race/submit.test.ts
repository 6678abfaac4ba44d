import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { get, post, type Reply } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

/** Many callers with one key at one moment, on two pods. */

const abort = new Map<string, unknown>()
const patient = defineStep(
  'patient',
  { input: z.object({ n: z.number().default(0) }) },
  (_, ctx) =>
    new Promise((_resolve, reject) =>
      ctx.signal.addEventListener('abort', () => {
        abort.set(ctx.stepId, ctx.signal.reason)
        reject(ctx.signal.reason as Error)
      }),
    ),
)
const quick = defineStep('quick', {}, () => ({ ok: true }))

const db = await testDatabase()
// A heart that does not beat while anybody waits here: what is heard was told by a hint.
const SLOW = {
  FLEET_Q_HEARTBEAT_SECONDS: '300',
  FLEET_Q_DEAD_AFTER_SECONDS: '1000',
  FLEET_Q_STALL_SECONDS: '1000',
}
const pods = [await startTestPod(db.url, [patient, quick], SLOW), await startTestPod(db.url, [quick], SLOW)]
const pod = (n: number) => {
  const chosen = pods[n % pods.length]
  assert.ok(chosen)
  return chosen
}

const counts = (replies: Reply[]) => {
  const byStatus: Record<number, number> = {}
  for (const { status } of replies) byStatus[status] = (byStatus[status] ?? 0) + 1
  return byStatus
}
const idsOf = (replies: Reply[]) => [...new Set(replies.map(({ body }) => String(body['step_id'])))]
const stepsOfType = async (type: string) => {
  const [row] = await db.sql<{ n: number }[]>`
    select count(*)::int as n from fleet_q.steps join fleet_q.lanes on lanes.id = lane_id where type = ${type}`
  return row?.n
}
const together = (count: number, send: (n: number) => Promise<Reply>) =>
  Promise.all(Array.from({ length: count }, (_, n) => send(n)))

test('fifty callers with one idempotency key make one step: one is told 201, all others the same id again', async () => {
  const body = { type: 'once', args: { n: 1 } }
  const replies = await together(50, (n) => post(pod(n).url, '/submit', body, { 'idempotency-key': 'fifty' }))
  assert.deepEqual(counts(replies), { 200: 49, 201: 1 })
  assert.equal(idsOf(replies).length, 1)
  assert.equal(await stepsOfType('once'), 1)
  for (const { status, headers } of replies)
    assert.equal(headers.get('idempotency-replayed'), status === 200 ? 'true' : null)

  const others = await together(10, (n) =>
    post(pod(n).url, '/submit', { ...body, args: { n: 2 } }, { 'idempotency-key': 'fifty' }),
  )
  assert.deepEqual(counts(others), { 409: 10 })
  assert.equal(others[0]?.body['error_type'], 'conflict')
})

test('fifty callers with one key and two bodies: one body has won, whoever sent the other is told so', async () => {
  const replies = await together(50, (n) =>
    post(
      pod(n >> 1).url,
      '/submit',
      { type: 'two-bodies', args: { side: n % 2 } },
      { 'idempotency-key': 'two bodies' },
    ),
  )
  assert.deepEqual(counts(replies), { 200: 24, 201: 1, 409: 25 })
  assert.equal(await stepsOfType('two-bodies'), 1)
  assert.equal(idsOf(replies.filter(({ status }) => status !== 409)).length, 1)
})

test('a batch with a key is made whole once, however many send it', async () => {
  const steps = Array.from({ length: 20 }, (_, n) => ({ type: 'batch-once', args: { n } }))
  const replies = await together(20, (n) =>
    post(pod(n).url, '/submit/batch', { steps }, { 'idempotency-key': 'batch' }),
  )
  assert.deepEqual(counts(replies), { 200: 19, 201: 1 })
  assert.equal(await stepsOfType('batch-once'), 20)
  assert.equal(new Set(replies.map(({ body }) => JSON.stringify(body['step_ids']))).size, 1)
})

const unique = (type: string, key: string, onConflict: string) => (n: number) =>
  post(pod(n).url, '/submit', { type, args: {}, unique: { key, on_conflict: onConflict } })

test('unique, reject: of fifty at once one is accepted, and the others are told which step has the key', async () => {
  const replies = await together(50, unique('patient', 'rejecting', 'reject'))
  assert.deepEqual(counts(replies), { 201: 1, 409: 49 })
  const id = String(replies.find(({ status }) => status === 201)?.body['step_id'])
  for (const { status, body } of replies)
    if (status === 409) assert.match(String(body['detail']), new RegExp(id))
  await post(pod(0).url, `/steps/${id}/cancel`)
  assert.deepEqual(counts(await together(20, unique('patient', 'rejecting', 'reject'))), { 201: 1, 409: 19 })
})

test('unique, return: fifty at once are given one step', async () => {
  const replies = await together(50, unique('returned', 'returning', 'return'))
  assert.equal(idsOf(replies).length, 1)
  assert.equal(await stepsOfType('returned'), 1)
})

test('unique, replace: of fifty at once one lives at the end, all others are cancelled', async () => {
  const replies = await together(50, unique('replaced', 'replacing', 'replace'))
  assert.deepEqual(counts(replies), { 201: 50 })
  assert.equal(idsOf(replies).length, 50)
  const live = await db.sql<{ step_id: string }[]>`
    select steps.id as step_id from fleet_q.steps join fleet_q.lanes on lanes.id = lane_id where type = 'replaced'
      and not exists (select from fleet_q.outcomes where outcomes.step_id = steps.id and status = 'cancelled')`
  const [holder] = await db.sql<
    { step_id: string }[]
  >`select step_id from fleet_q.unique_keys where key = 'replacing'`
  assert.deepEqual([...live], [holder])
})

test('unique, replace: a running step that is replaced is told at once', async () => {
  const first = await unique('patient', 'running', 'replace')(1)
  const id = String(first.body['step_id'])
  await until('it to run', async () => (await get(pod(0).url, `/status/${id}`)).body['tray'] === 'claimed')
  await unique('patient', 'running', 'replace')(1)
  assert.equal(((await until('it to be told', () => abort.get(id))) as { why: string }).why, 'cancelled')
})

test('batches that want the same unique keys crosswise all get an answer, none of them a deadlock', async () => {
  const keys = ['a', 'b', 'c', 'd', 'e', 'f']
  const replies = await together(40, (n) => {
    const order = n % 2 === 0 ? keys : keys.toReversed()
    const steps = order.map((key) => ({
      type: 'crosswise',
      args: { key },
      unique: { key: `crosswise ${key}`, on_conflict: n % 4 < 2 ? 'replace' : 'return' },
    }))
    return post(pod(n).url, '/submit/batch', { steps })
  })
  assert.deepEqual(counts(replies), { 201: 40 })
  const live = await db.sql<{ args: { key: string } }[]>`
    select args from fleet_q.steps join fleet_q.lanes on lanes.id = lane_id where type = 'crosswise'
      and not exists (select from fleet_q.outcomes where outcomes.step_id = steps.id) order by args ->> 'key'`
  assert.deepEqual(
    live.map(({ args }) => args.key),
    keys,
  )
})

test('many callers that meet new types and keys at the same moment: every step lies in a lane that is there', async () => {
  const replies = await together(60, (n) =>
    post(
      pod(n).url,
      '/submit',
      { type: 'quick', key: `new ${n % 20}`, priority: n % 3, args: {} },
      n % 2 ? { 'idempotency-key': `lane ${n}` } : {},
    ),
  )
  assert.deepEqual(counts(replies), { 201: 60 })
  await until('all of them to complete', async () => {
    const [row] = await db.sql<{ n: number }[]>`
      select count(*)::int as n from fleet_q.outcomes join fleet_q.steps on steps.id = step_id
      join fleet_q.lanes on lanes.id = lane_id where lanes.key like 'new %' and status = 'completed'`
    return row?.n === 60
  })
})

test('two steps of one batch cannot have the same unique key', async () => {
  const steps = ['replace', 'return'].map((on_conflict) => ({
    type: 'twin',
    args: {},
    unique: { key: 'twin', on_conflict },
  }))
  const { status, body } = await post(pod(0).url, '/submit/batch', { steps })
  assert.equal(status, 400)
  assert.deepEqual(
    (body['issues'] as { at: string }[]).map(({ at }) => at),
    ['steps.1.unique'],
  )
  assert.equal(await stepsOfType('twin'), 0)
})
