import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allSettled, assertSound, lifeOf, podRow, startsFile } from '../recovery/fleet.ts'
import { testDatabase } from '../support/database.ts'
import { post } from '../support/http.ts'
import { saysCommitted, startProxy } from '../support/proxy.ts'
import { assertAway } from './load.ts'
import { endOfAnswer, sayWhenTried, startPod } from './pod.ts'

/** The database has done it, and the answer is lost: many steps at once, and attempts that are followed by another. */

const { url, sql } = await testDatabase()
await sayWhenTried(sql)
const proxy = await startProxy(url)
const file = startsFile()
const pod = await startPod(proxy.url)

const countOf = async (n: number) => {
  const rows = await sql`select 1 from fleet_q.steps where args ->> 'n' = ${String(n)}`
  return rows.length
}

test('a batch whose connection is cut in the commit is there whole; repeated with its key, it is the same batch', async () => {
  const steps = Array.from({ length: 20 }, () => ({ type: 'polite', args: { file: file.path, n: 1 } }))
  const send = () => post(pod.url, '/submit/batch', { steps }, { 'idempotency-key': 'batch' })
  const lost = proxy.swallowAnswer(
    (answer, link) => link.name.startsWith('fleet-q door ') && saysCommitted(answer),
  )
  const first = await send()
  await lost
  assert.equal(first.status, 503, JSON.stringify(first.body))
  assert.equal(first.body['error_type'], 'database_unavailable')
  assert.ok(Number(first.headers.get('retry-after')) >= 1)
  assert.equal(await countOf(1), 20)

  const again = await send()
  assert.equal(again.status, 200, JSON.stringify(again.body))
  assert.equal(again.headers.get('idempotency-replayed'), 'true')
  const ids = again.body['step_ids'] as string[]
  assert.equal(new Set(ids).size, 20)
  await allSettled(sql)
  assert.equal(await countOf(1), 20)
  for (const id of ids) assert.equal(file.starts(id).length, 1)
})

test('a failed attempt that is handed in twice, because the first receipt was lost, is tried again once', async () => {
  const lost = proxy.swallowAnswer(endOfAnswer('work', 'an attempt was settled'))
  const retry = { strategy: 'fixed', base_ms: 0, jitter: 0 }
  const reply = await post(pod.url, '/submit', { type: 'fails-at-first', args: { file: file.path }, retry })
  assert.equal(reply.status, 201, JSON.stringify(reply.body))
  await lost
  const id = String(reply.body['step_id'])
  assert.equal((await lifeOf(sql, id)).before.length, 1, 'what was lost had not been committed')
  await allSettled(sql)
  const { status, attempt, before } = await lifeOf(sql, id)
  assert.deepEqual({ status, attempt, before: before.length }, { status: 'completed', attempt: 2, before: 1 })
  assert.deepEqual(
    file.starts(id).map((start) => start.attempt),
    [1, 2],
  )
  assert.equal((await podRow(sql, pod)).refused, 0)
  assert.doesNotMatch(pod.output(), /late answers were refused/)
  await assertSound(sql)
})

test('a submit with a unique key that is cut in the commit and sent again is the step that lives under that key', async () => {
  const lost = proxy.swallowAnswer(
    (answer, link) => link.name.startsWith('fleet-q door ') && saysCommitted(answer),
  )
  const wish = {
    type: 'polite',
    args: { n: 2 },
    delay_seconds: 3600,
    unique: { key: 'one', on_conflict: 'return' },
  }
  assertAway(await post(pod.url, '/submit', wish))
  await lost
  const again = await post(pod.url, '/submit', wish)
  const [step, ...others] = await sql<{ step_id: string }[]>`
    select fleet_q.step_public_id(id, salt, created_at) as step_id from fleet_q.steps where args ->> 'n' = '2'`
  assert.deepEqual([step?.step_id, others], [again.body['step_id'], []])
})
