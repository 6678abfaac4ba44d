import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allSettled, assertSound, lifeOf, lives, podRow, startsFile } from '../recovery/fleet.ts'
import { testDatabase } from '../support/database.ts'
import { post } from '../support/http.ts'
import { startProxy } from '../support/proxy.ts'
import { loseAnswer, sayWhenSettled, startPod } from './pod.ts'

/** The database has done it, and the answer is lost on the way: what was meant once happens once. */

const { url, sql } = await testDatabase()
await sayWhenSettled(sql)
const proxy = await startProxy(url)
const file = startsFile()
const pod = await startPod(proxy.url)

const polite = (n: number, ms = 0) => ({ type: 'polite', args: { file: file.path, ms, n } })
const withKey = (key: string, path: string, body: object) =>
  post(pod.url, path, body, { 'idempotency-key': key })
const stepsOf = async (n: number) => {
  const rows = await sql<{ id: string }[]>`select id from fleet_q.steps where args ->> 'n' = ${String(n)}`
  return rows.length
}

test('a submit whose connection is cut in the commit is answered 503; repeated with its key, it is the same step', async () => {
  const lost = loseAnswer(proxy, 'door', 'COMMIT')
  const first = await withKey('cut in the commit', '/submit', polite(1))
  await lost
  assert.equal(first.status, 503, JSON.stringify(first.body))
  assert.equal(first.body['error_type'], 'database_unavailable')
  assert.equal(await stepsOf(1), 1)

  const again = await withKey('cut in the commit', '/submit', polite(1))
  assert.equal(again.status, 200, JSON.stringify(again.body))
  assert.equal(again.headers.get('idempotency-replayed'), 'true')
  await allSettled(sql)
  assert.equal(await stepsOf(1), 1)
  assert.equal((await lifeOf(sql, String(again.body['step_id']))).status, 'completed')
  assert.equal(file.starts(String(again.body['step_id'])).length, 1)
})

test('a batch whose connection is cut in the commit is there whole; repeated with its key, it is the same batch', async () => {
  const batch = { steps: Array.from({ length: 20 }, () => polite(2)) }
  const lost = loseAnswer(proxy, 'door', 'COMMIT')
  const first = await withKey('batch', '/submit/batch', batch)
  await lost
  assert.equal(first.status, 503, JSON.stringify(first.body))
  assert.equal(await stepsOf(2), 20)
  const again = await withKey('batch', '/submit/batch', batch)
  assert.equal(again.status, 200, JSON.stringify(again.body))
  assert.equal((again.body['step_ids'] as string[]).length, 20)
  assert.equal(await stepsOf(2), 20)
  await allSettled(sql)
})

test('a submit whose connection is cut before the commit leaves nothing; repeated with its key, it is one step', async () => {
  // The answer to the insert: the transaction is open, and ends with its connection.
  const lost = proxy.swallowAnswer(
    (answer, link) => link.name.startsWith('fleet-q door ') && answer.includes('INSERT 0 1'),
  )
  const first = await withKey('before the commit', '/submit', polite(3))
  await lost
  assert.equal(first.status, 503, JSON.stringify(first.body))
  const again = await withKey('before the commit', '/submit', polite(3))
  assert.equal(again.status, 201, JSON.stringify(again.body))
  assert.equal(await stepsOf(3), 1)
  await allSettled(sql)
})

test('steps whose claim was answered to nobody are found by their pod, and run without the loss of an attempt', async () => {
  const lost = loseAnswer(proxy, 'work', 'claimed')
  const reply = await post(pod.url, '/submit/batch', { steps: Array.from({ length: 5 }, () => polite(4)) })
  assert.equal(reply.status, 201)
  await lost
  await pod.saw('released steps whose claim was answered to nobody')
  await allSettled(sql)
  await assertSound(sql)
  for (const { step_id, status, attempt, before } of await lives(sql, reply.body['step_ids'] as string[])) {
    assert.deepEqual({ step_id, status, attempt }, { step_id, status: 'completed', attempt: 1 })
    assert.deepEqual(
      before.map((each) => each.ended),
      ['released'],
    )
    assert.equal(file.starts(step_id).length, 1)
  }
})

test('a result that is handed in twice, because the first answer was lost, is not refused and not counted so', async () => {
  const lost = loseAnswer(proxy, 'work', 'settled in outcomes')
  const reply = await post(pod.url, '/submit', polite(5))
  await lost
  const id = String(reply.body['step_id'])
  const done = await lifeOf(sql, id)
  assert.equal(done.status, 'completed')
  await handedInAll()
  assert.deepEqual(await lifeOf(sql, id), done)
  assert.equal(file.starts(id).length, 1)
  assert.equal((await podRow(sql, pod)).refused, 0)
})

test('a failure that is handed in twice, because the first answer was lost, costs one attempt and is not refused', async () => {
  const lost = loseAnswer(proxy, 'work', 'settled in attempts')
  const retry = { strategy: 'fixed', base_ms: 0, jitter: 0 }
  const reply = await post(pod.url, '/submit', { type: 'fails-at-first', args: { file: file.path }, retry })
  assert.equal(reply.status, 201, JSON.stringify(reply.body))
  await lost
  const id = String(reply.body['step_id'])
  await handedInAll()
  const { status, attempt, before } = await lifeOf(sql, id)
  assert.deepEqual({ status, attempt, before: before.length }, { status: 'completed', attempt: 2, before: 1 })
  assert.deepEqual(
    file.starts(id).map((start) => start.attempt),
    [1, 2],
  )
  assert.equal((await podRow(sql, pod)).refused, 0)
})

/** A later step has run: its claim came with the reports that were kept. */
async function handedInAll() {
  const reply = await post(pod.url, '/submit', polite(0))
  assert.equal(reply.status, 201, JSON.stringify(reply.body))
  await allSettled(sql)
  await assertSound(sql)
  assert.doesNotMatch(pod.output(), /late answers were refused/)
}
