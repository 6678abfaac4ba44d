import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allSettled, assertSound, lives, startsFile, submitMany } from '../recovery/fleet.ts'
import { testDatabase } from '../support/database.ts'
import { get, post } from '../support/http.ts'
import { startPodProcess } from '../support/processes.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { assertAway } from './load.ts'
import { startPod } from './pod.ts'

/** Half of a half-open connection: the database hears and does what it is told, and no answer comes back. */

const DOOR_DEADLINE_MS = 5000
const BUSY_MACHINE_MS = 15_000

const { url, sql } = await testDatabase()

/** Begun first, because it takes its time: what a pod says that finds no voice at the other end. */
const silent = await startProxy(url)
silent.blackhole()
const silence = startPodProcess(silent.url, { FLEET_Q_LOG_LEVEL: 'error' }, { limitMs: 40_000 }).then(
  () => undefined,
  (error: unknown) => (error instanceof Error ? error.message : String(error)),
)

test('what two pods send arrives and no answer does: submits are told so in time, nothing is lost or done twice', async () => {
  const proxy = await startProxy(url)
  const file = startsFile()
  const pods = await Promise.all([startPod(proxy.url), startPod(proxy.url)])
  const [pod] = pods
  const ended: string[] = []
  for (const each of pods)
    void each.exited.then(({ code, signal }) => ended.push(`${each.id}: ${code ?? signal}`))
  const wish = { type: 'polite', args: { file: file.path, ms: 0 } }
  const ids = await submitMany(pod, 60, (n) => ({ ...wish, args: { file: file.path, ms: 100 + n * 10 } }))
  await until('steps to run on both', async () => {
    const rows = await sql`select distinct pod_id from fleet_q.claims`
    return rows.length === 2
  })

  proxy.blackhole('to client')
  const askedAt = performance.now()
  const submits = [
    post(pod.url, '/submit', wish),
    post(pod.url, '/submit', wish, { 'idempotency-key': 'unheard' }),
  ]
  for (const reply of await Promise.all(submits)) assertAway(reply)
  const tookMs = performance.now() - askedAt
  assert.ok(tookMs < DOOR_DEADLINE_MS + BUSY_MACHINE_MS, `the answer took ${tookMs} ms`)
  for (const each of pods) {
    const health = await until('the pod to say that its database is away', async () => {
      const reply = await get(each.url, '/health')
      return reply.body['database'] === 'away' && reply
    })
    assert.equal(health.status, 200)
    assert.equal((await get(each.url, '/readyz')).status, 503)
  }

  proxy.pass()
  for (const each of pods)
    await until('the pod to be ready again', async () => (await get(each.url, '/readyz')).status === 200)
  const again = await post(pod.url, '/submit', wish, { 'idempotency-key': 'unheard' })
  assert.ok(again.status === 201 || again.status === 200, JSON.stringify(again.body))
  ids.push(String(again.body['step_id']))
  await allSettled(sql)
  await assertSound(sql)
  const all = await lives(sql, ids)
  assert.equal(all.length, ids.length)
  for (const { step_id, status, attempt } of all)
    assert.deepEqual({ step_id, status, attempt }, { step_id, status: 'completed', attempt: 1 })
  const rows = await sql<{ status: string; refused: number }[]>`select status, refused::int from fleet_q.pods`
  assert.deepEqual(
    [...rows],
    pods.map(() => ({ status: 'live', refused: 0 })),
  )
  assert.deepEqual(ended, [])
})

test('a pod whose database accepts connections and says nothing gives up with a sentence, a reason and no trace', async () => {
  const failure = await silence
  assert.ok(failure, 'it came up')
  const [first, ...said] = failure.split('\n')
  assert.equal(first, 'the pod ended at its start:')
  assert.match(said.join('\n'), /^fleet-q: [^\n]*\bdatabase\b[^\n]*\.\n/i)
  assert.doesNotMatch(said.join('\n'), /\n\s+at |node_modules|node:internal|\.ts\b/)
})
