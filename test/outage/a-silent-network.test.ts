import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allSettled, assertSound, lives, startsFile, submitMany } from '../recovery/fleet.ts'
import { testDatabase } from '../support/database.ts'
import { get, post } from '../support/http.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { startPod } from './pod.ts'

/** Half-open connections: what is sent is heard by nobody, and nobody says so. Both pods of the fleet suffer. */

const DOOR_DEADLINE_MS = 5000
const BUSY_MACHINE_MS = 2000

const { url, sql } = await testDatabase()
const proxy = await startProxy(url)
const file = startsFile()
const pods = await Promise.all([startPod(proxy.url), startPod(proxy.url)])
const [pod] = pods
const ended: string[] = []
for (const each of pods)
  void each.exited.then(({ code, signal }) => ended.push(`${each.id}: ${code ?? signal}`))

const polite = (ms: number) => ({ type: 'polite', args: { file: file.path, ms } })
const databaseOf = async (podUrl: string) => (await get(podUrl, '/health')).body['database']

for (const [way, what] of [
  ['both', 'nothing gets through in either direction'],
  ['to client', 'what the pods send arrives, and no answer does'],
  ['to server', 'what the pods send does not arrive'],
] as const)
  test(`connections are half-open, ${what}: submits are told 503 in time, and the pods go on when the network does`, async () => {
    assert.ok(pod)
    const ids = await submitMany(pod, 60, (n) => polite(100 + n * 10))
    await until('steps to run on both', async () => {
      const rows = await sql`select distinct pod_id from fleet_q.claims`
      return rows.length === 2
    })

    proxy.blackhole(way)
    const askedAt = performance.now()
    const plain = post(pod.url, '/submit', polite(0))
    const keyed = post(pod.url, '/submit', polite(0), { 'idempotency-key': way })
    for (const { status, headers, body } of await Promise.all([plain, keyed])) {
      assert.equal(status, 503, JSON.stringify(body))
      assert.equal(body['error_type'], 'database_unavailable')
      assert.match(headers.get('retry-after') ?? '', /^[1-9]\d*$/)
    }
    const tookMs = performance.now() - askedAt
    assert.ok(tookMs < DOOR_DEADLINE_MS + BUSY_MACHINE_MS, `the answer took ${tookMs} ms`)
    for (const each of pods) {
      await until(
        'the pod to say that its database is away',
        async () => (await databaseOf(each.url)) === 'away',
      )
      assert.equal((await get(each.url, '/health')).status, 200)
      assert.equal((await get(each.url, '/readyz')).status, 503)
    }

    proxy.pass()
    for (const each of pods)
      await until('the pod to be ready again', async () => (await get(each.url, '/readyz')).status === 200)
    const again = await post(pod.url, '/submit', polite(0), { 'idempotency-key': way })
    assert.ok(again.status === 201 || again.status === 200, JSON.stringify(again.body))
    ids.push(String(again.body['step_id']))
    await allSettled(sql)
    await assertSound(sql)
    for (const { step_id, status, attempt } of await lives(sql, ids))
      assert.deepEqual({ step_id, status, attempt }, { step_id, status: 'completed', attempt: 1 })
    assert.equal((await lives(sql, ids)).length, ids.length)
    const states = await sql<{ status: string }[]>`select status from fleet_q.pods`
    assert.deepEqual(
      states.map(({ status }) => status),
      ['live', 'live'],
    )
    assert.deepEqual(ended, [])
  })
