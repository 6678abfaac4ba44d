import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { get, post } from '../support/http.ts'
import type { PodProcess } from '../support/processes.ts'
import { until } from '../support/until.ts'
import {
  allSettled,
  assertSound,
  endOf,
  endPods,
  heldBy,
  leaderOf,
  lives,
  startPods,
  startsFile,
  submitMany,
} from './fleet.ts'

test('a leader that is killed in the middle of a cycle loses nothing: the next leader finishes it', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pods = await startPods(url, 3)
  const { pod: leaderId } = await leaderOf(sql)
  const leader = pods.find((pod) => pod.id === leaderId)
  const [victim, heir] = pods.filter((pod) => pod.id !== leaderId)
  assert.ok(leader && victim && heir)
  // The heir is kept free for what it will inherit.
  const drain = (enabled: boolean) => post(heir.url, `/admin/pods/${heir.id}/drain`, { enabled })
  assert.equal((await drain(true)).status, 200)
  // Every second one has no second try: the cycle has to give it its outcome, and that is where it can be held up.
  const ids = await submitMany(leader, 16, (n) => ({
    type: 'long-at-first',
    args: { file: file.path, ms: 60_000, n },
    max_retries: n % 2,
  }))
  await until('both to have their hands full', () => file.starts().length === 16)
  const ofVictim = await heldBy(sql, victim)
  const doomed = (await lives(sql, ofVictim)).find((life) => ids.indexOf(life.step_id) % 2 === 0)
  assert.ok(doomed)

  // Somebody else is about to give this step its outcome: the leader's statement waits for how that ends.
  let letGo: () => void = () => {}
  const undecided = new Promise<void>((resolve) => (letGo = resolve))
  const holding = sql
    .begin(async (tx) => {
      await tx`
        insert into fleet_q.outcomes (step_id, status, attempt)
        select id, 'cancelled', 0 from fleet_q.steps
        where fleet_q.step_public_id(id, salt, created_at) = ${doomed.step_id}`
      await undecided
      throw new Error('changed its mind')
    })
    .catch(() => {})
  await drain(false)
  victim.signal('SIGKILL')
  await until('the leader to be stuck in the middle of its cycle', async () => {
    const [row] = await sql`
      select 1 from pg_stat_activity
      where datname = current_database() and query like '%recovery.put_back%' and wait_event_type = 'Lock'`
    return row
  })
  leader.signal('SIGKILL')
  await endOf(leader)
  letGo()
  await holding

  await allSettled(sql)
  assert.equal((await leaderOf(sql)).pod, heir.id)
  for (const life of await lives(sql, ids)) {
    const dead: PodProcess = ofVictim.includes(life.step_id) ? victim : leader
    if (ids.indexOf(life.step_id) % 2 === 0) {
      assert.deepEqual([life.status, life.reason, life.pod], ['failed', 'dead_pod', dead.id])
      assert.deepEqual(life.before, [])
    } else {
      assert.deepEqual([life.status, life.attempt, life.pod], ['completed', 2, heir.id])
      assert.deepEqual(life.before, [{ ended: 'pod_died', attempt: 1, pod: dead.id }])
    }
  }
  const { body } = await get(heir.url, '/admin/recovery')
  const cycles = body['cycles'] as { pod_id: string; error: string | null; finished_at: string | null }[]
  const broken = cycles.filter((cycle) => cycle.error !== null)
  assert.deepEqual(
    broken.map((cycle) => cycle.pod_id),
    [leader.id],
    'the cycle that was never finished is written down as such',
  )
  assert.ok(cycles.every((cycle) => cycle.finished_at !== null))
  await assertSound(sql)
  await endPods(heir)
})
