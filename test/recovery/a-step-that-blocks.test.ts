import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { submit } from '../support/http.ts'
import { until } from '../support/until.ts'
import {
  allSettled,
  assertSound,
  endOf,
  endPods,
  lifeOf,
  lives,
  podRow,
  startPod,
  startPods,
  startsFile,
  submitMany,
} from './fleet.ts'

const FOR_EVER_MS = 1e9

test('a step that blocks its pod for three thresholds runs once, and so do its neighbours: the heart is a thread', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const deadAfterMs = 2500
  const patience = {
    FLEET_Q_HEARTBEAT_SECONDS: '0.4',
    FLEET_Q_DEAD_AFTER_SECONDS: String(deadAfterMs / 1000),
    FLEET_Q_STALL_SECONDS: '20',
  }
  const blocked = await startPod(url, patience)
  const ids = await submitMany(blocked, 4, (n) => ({
    type: n === 3 ? 'blocking' : 'polite',
    args: { file: file.path, ms: n === 3 ? 3 * deadAfterMs : 4 * deadAfterMs, n },
  }))
  await until('all to run', () => file.started() === 4)
  // Somebody who could take over, and would.
  const other = await startPod(url, patience)
  await allSettled(sql)
  for (const life of await lives(sql, ids))
    assert.deepEqual([life.status, life.attempt, life.pod, life.before], ['completed', 1, blocked.id, []])
  assert.equal(file.starts().length, 4)
  assert.equal((await podRow(sql, blocked)).status, 'live')
  await endPods(blocked, other)
})

test('a step that blocks its pod for ever ends it at the stall limit; after three pods it is poison', async (t) => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pods = await startPods(url, 4, { FLEET_Q_STALL_SECONDS: '3' })
  const [door] = pods
  assert.ok(door)
  const id = await submit(door.url, {
    type: 'blocking',
    args: { file: file.path, ms: FOR_EVER_MS },
    max_retries: 10,
  })
  const startedAt = performance.now()
  const life = await until(
    'the step to be given up',
    async () => {
      const seen = await lifeOf(sql, id)
      return seen.status === null ? undefined : seen
    },
    40_000,
  )
  assert.deepEqual([life.status, life.reason, life.attempt], ['failed', 'poison', 3])
  assert.deepEqual(
    life.before.map((each) => [each.ended, each.attempt]),
    [
      ['pod_died', 1],
      ['pod_died', 2],
    ],
  )
  const killed = [...life.before.map((each) => each.pod), life.pod]
  assert.equal(new Set(killed).size, 3, 'by three pods')
  for (const pod of pods.filter(({ id }) => killed.includes(id))) {
    assert.deepEqual(await endOf(pod), { code: null, signal: 'SIGKILL' })
    assert.match(pod.output(), /ends itself: its event loop was blocked/)
    const row = await podRow(sql, pod)
    assert.equal(row.status, 'dead')
    assert.match(
      row.ended_why ?? '',
      /blocked for more than 3 s/,
      'it said so itself, nobody had to wait for its silence',
    )
  }
  const survivor = pods.find((pod) => !killed.includes(pod.id))
  assert.ok(survivor)
  const next = await submit(survivor.url, { type: 'polite', args: { file: file.path } })
  await until('the survivor to go on', async () => (await lifeOf(sql, next)).status === 'completed')
  assert.equal(file.starts(id).length, 3)
  t.diagnostic(`poison after ${((performance.now() - startedAt) / 1000).toFixed(1)} s`)
  await assertSound(sql)
  await endPods(survivor)
})
