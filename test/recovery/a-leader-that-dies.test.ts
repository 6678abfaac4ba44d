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
  outcomesSoFar,
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
  await until('both to have their hands full', () => file.started() === 16)
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

test('a leader that is killed before it could say what it put back: the next one says it', async (t) => {
  const { url, sql } = await testDatabase()
  // Between what a cycle put back and the call to the others lies its report: here it takes a while to write.
  await sql.unsafe(`
    create function public.dawdle() returns trigger language plpgsql as 'begin perform pg_sleep(2); return new; end';
    create trigger dawdle before update on fleet_q.recovery_cycles for each row
      when (new.requeued > 0) execute function public.dawdle();`)
  const file = startsFile()
  const pods = await startPods(url, 3)
  const { pod: leaderId } = await leaderOf(sql)
  const leader = pods.find((pod) => pod.id === leaderId)
  const [victim, heir] = pods.filter((pod) => pod.id !== leaderId)
  assert.ok(leader && victim && heir)
  // It holds nothing that the heir would have to put back itself.
  assert.equal((await post(leader.url, `/admin/pods/${leader.id}/drain`, {})).status, 200)
  await submitMany(heir, 5000, (n) => ({ type: 'polite', args: { file: file.path, ms: 50, n } }))
  // Far into its backlog a pod no longer looks at where the lane begins, which is where orphans are put.
  await until('some hundred to be done', async () => (await outcomesSoFar(sql)) > 300)

  const orphans = await until('a pod to be killed with steps in its hands', async () => {
    victim.signal('SIGSTOP')
    const held = await heldBy(sql, victim)
    if (held.length === 0) {
      victim.signal('SIGCONT')
      return undefined
    }
    victim.signal('SIGKILL')
    return held
  })
  await until('its steps to be put back, and nobody to know it', async () => {
    const [row] = await sql`
      select 1 from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`
    return row
  })
  leader.signal('SIGKILL')
  await until('the heir to lead', async () => (await leaderOf(sql)).pod === heir.id)
  const leadsAt = performance.now()
  // Its own next look at the beginning of the lane is some 20 s away.
  await until(
    'the orphans to be done, and not the backlog',
    async () => (await lives(sql, orphans)).every((life) => life.status === 'completed'),
    5000,
  )
  const [row] = await sql<{ n: number }[]>`select count(*)::int as n from fleet_q.ready`
  assert.ok(row && row.n > 1000, 'they did not wait for their turn')
  t.diagnostic(
    `${orphans.length} orphans done ${Math.round(performance.now() - leadsAt)} ms after the heir leads, before ${row.n} others`,
  )
  await endPods(heir)
})
