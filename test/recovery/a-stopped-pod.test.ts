import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type postgres from 'postgres'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { get, post } from '../support/http.ts'
import { FAST } from '../support/processes.ts'
import { until } from '../support/until.ts'
import {
  allSettled,
  assertSound,
  endOf,
  endPods,
  heldBy,
  HANDLERS,
  lives,
  outcomesSoFar,
  podRow,
  startPod,
  startPods,
  startsFile,
  submitMany,
} from './fleet.ts'

/** Nothing in these tests may come about by a poll, nor a pod be declared dead because the machine is busy. */
const PATIENT = {
  FLEET_Q_POLL_SECONDS: '120',
  FLEET_Q_HEARTBEAT_SECONDS: '1',
  FLEET_Q_DEAD_AFTER_SECONDS: '6',
}

const attemptsOf = (sql: postgres.Sql) => sql`select from fleet_q.attempts`

/** When each step that was released was taken again, and as which attempt. */
const takenAgain = (sql: postgres.Sql) => sql<
  { step_id: string; ended: string; attempt: number; next_attempt: number; pod: string; gap_ms: number }[]
>`
  select held.step_id, attempts.ended, attempts.attempt, held.attempt as next_attempt, pods.public_id as pod,
    extract(epoch from claims.taken_at - attempts.ended_at)::float8 * 1000 as gap_ms
  from fleet_q.attempts
  join (
    select claims.id as claim_id, step_id, attempt from fleet_q.claims, unnest(step_ids, attempts) as h (step_id, attempt)
  ) as held on held.step_id = attempts.step_id
  join fleet_q.claims on claims.id = held.claim_id and claims.id <> attempts.claim_id
  join fleet_q.pods on pods.id = claims.pod_id
  order by held.step_id`

test('a pod that is asked to end finishes short steps: nothing is lost, no attempt is burnt', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pods = await startPods(url, 3, PATIENT)
  const [door, ...leaving] = pods
  assert.ok(door)
  const ids = await submitMany(door, 900, (n) => ({ type: 'polite', args: { file: file.path, ms: 20, n } }))
  for (const [i, pod] of leaving.entries()) {
    await until('the next part to be done', async () => (await outcomesSoFar(sql)) > 200 * (i + 1))
    pod.signal('SIGTERM')
    assert.deepEqual(await endOf(pod), { code: 0, signal: null })
    const row = await podRow(sql, pod)
    assert.deepEqual([row.status, row.ended_why, row.refused], ['gone', 'stopped by SIGTERM', 0])
    assert.deepEqual(await heldBy(sql, pod), [], 'it left nothing behind')
  }
  await allSettled(sql)
  for (const life of await lives(sql, ids)) {
    assert.deepEqual([life.status, life.attempt, life.before], ['completed', 1, []])
  }
  assert.equal(file.starts().length, 900, 'each ran once')
  const status = (await get(door.url, `/status/${ids[0]}`)).body
  assert.equal(status['retry_count'], 0)
  await endPods(door)
})

test('a step that waits for its next try is tried in time, though the pod that knew of it has left', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const leader = await startPod(url, { ...PATIENT, FLEET_Q_MAX_PARALLELISM: '1' })
  // Its only slot is taken until the other pod has had the first attempt.
  await submitMany(leader, 1, () => ({ type: 'polite', args: { file: file.path, ms: 6000 } }))
  await until('the leader to be busy', () => file.started() === 1)
  const leaving = await startPod(url, PATIENT)
  const [id] = await submitMany(leaving, 1, () => ({
    type: 'long-at-first',
    args: { file: file.path, ms: 60_000 },
    timeout_seconds: 4,
    retry: { strategy: 'fixed', base_ms: 3000, jitter: 0 },
  }))
  assert.ok(id)
  // By the time of its failure no step has come for a while, and the leader has ceased to look for what is due.
  await until('the attempt to fail', async () => (await attemptsOf(sql)).length === 1)
  leaving.signal('SIGTERM')
  await endOf(leaving)
  // The leader would come upon it within 30 s anyway.
  const life = await until(
    'the second attempt to end',
    async () => (await lives(sql, [id])).find(({ status }) => status === 'completed'),
    15_000,
  )
  assert.deepEqual([life.attempt, life.pod], [2, leader.id])
  await endPods(leader)
})

test('steps longer than the grace period are given back, and run elsewhere at once, in the same attempt', async (t) => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const leaving = await startPod(url, { ...PATIENT, FLEET_Q_GRACE_SECONDS: '0.5' })
  const long = (type: string) => () => ({ type, args: { file: file.path, ms: 60_000 } })
  await submitMany(leaving, 5, long('polite'))
  // One that does not listen: its pod gives it back all the same.
  await submitMany(leaving, 1, long('deaf'))
  await until('all to run', () => file.started() === 6)
  // Nor by its heartbeat, at which it looks around as well.
  const heir = await startPod(url, {
    ...PATIENT,
    FLEET_Q_HEARTBEAT_SECONDS: '60',
    FLEET_Q_DEAD_AFTER_SECONDS: '180',
    FLEET_Q_STALL_SECONDS: '180',
  })

  const askedAt = performance.now()
  leaving.signal('SIGTERM')
  assert.deepEqual(await endOf(leaving), { code: 0, signal: null })
  const endedMs = performance.now() - askedAt
  const again = await until('all to be taken again', async () => {
    const rows = await takenAgain(sql)
    return rows.length === 6 && rows
  })
  for (const row of again) {
    assert.deepEqual([row.ended, row.attempt, row.next_attempt, row.pod], ['released', 1, 1, heir.id])
    assert.ok(row.gap_ms >= 0, 'given back first, taken after that')
  }
  await until('all to run again', () => file.starts().length === 12)
  assert.ok(file.starts().every(({ attempt }) => attempt === 1))
  assert.equal((await podRow(sql, leaving)).status, 'gone')
  const gaps = again.map((row) => Math.round(row.gap_ms))
  t.diagnostic(
    `taken ${gaps.join(', ')} ms after they were given back; the pod ended after ${Math.round(endedMs)} ms`,
  )
  await endPods(heir)
  await assertSound(sql)
})

test('a claim that is answered while its pod is being stopped is not left behind', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pod = await startPod(url, { ...PATIENT, FLEET_Q_POLL_SECONDS: '0.2' })
  // A claim that takes its time: it is made before the pod says that it drains, and answered after that.
  await sql.unsafe(`
    create function public.dawdle() returns trigger language plpgsql as 'begin perform pg_sleep(1); return new; end';
    create trigger dawdle before insert on fleet_q.claims for each row execute function public.dawdle();`)
  const [id] = await submitMany(pod, 1, () => ({ type: 'polite', args: { file: file.path, ms: 100 } }))
  assert.ok(id)
  await until('the claim to be under way', async () => {
    const [row] = await sql`
      select 1 from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`
    return row
  })
  pod.signal('SIGTERM')
  assert.deepEqual(await endOf(pod), { code: 0, signal: null })
  const [life] = await lives(sql, [id])
  assert.deepEqual([life?.status, life?.attempt, life?.before], ['completed', 1, []])
  assert.equal(file.starts().length, 1)
})

test('a claim that is answered when the grace period is over is given back, and starts nothing', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pod = await startPod(url, { ...PATIENT, FLEET_Q_POLL_SECONDS: '0.2', FLEET_Q_GRACE_SECONDS: '0' })
  await sql.unsafe(`
    create function public.dawdle() returns trigger language plpgsql as 'begin perform pg_sleep(1); return new; end';
    create trigger dawdle before insert on fleet_q.claims for each row execute function public.dawdle();`)
  const [id] = await submitMany(pod, 1, () => ({ type: 'polite', args: { file: file.path, ms: 60_000 } }))
  assert.ok(id)
  await until('the claim to be under way', async () => {
    const [row] = await sql`
      select 1 from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`
    return row
  })
  pod.signal('SIGTERM')
  assert.deepEqual(await endOf(pod), { code: 0, signal: null })
  const [life] = await lives(sql, [id])
  assert.deepEqual(life?.before, [{ ended: 'released', attempt: 1, pod: pod.id }])
  assert.equal(file.starts().length, 0)
  const [ready] = await sql`select attempt from fleet_q.ready`
  assert.deepEqual(ready, { attempt: 1 })
})

test('asked to end twice, a pod ends once: what runs may still finish', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pod = await startPod(url, PATIENT)
  const ids = await submitMany(pod, 4, () => ({ type: 'polite', args: { file: file.path, ms: 1200 } }))
  await until('all to run', () => file.started() === 4)
  pod.signal('SIGTERM')
  await pod.saw('stopping: no new steps')
  pod.signal('SIGTERM')
  assert.deepEqual(await endOf(pod), { code: 0, signal: null })
  for (const life of await lives(sql, ids)) assert.deepEqual([life.status, life.before], ['completed', []])
})

test('Ctrl-C ends a pod as SIGTERM does; a second one ends it on the spot, and the others recover what it held', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const [first, second, heir] = await startPods(url, 3)
  assert.ok(first && second && heir)
  first.signal('SIGINT')
  assert.deepEqual(await endOf(first), { code: 0, signal: null })
  assert.equal((await podRow(sql, first)).ended_why, 'stopped by SIGINT')

  const ids = await submitMany(second, 16, () => ({
    type: 'long-at-first',
    args: { file: file.path, ms: 4000 },
  }))
  await until('all to run', () => file.started() === 16)
  const held = await heldBy(sql, second)
  second.signal('SIGINT')
  await second.saw('stopping: no new steps')
  second.signal('SIGINT')
  assert.deepEqual(await endOf(second), { code: 130, signal: null })
  await allSettled(sql)
  for (const life of await lives(sql, ids))
    assert.deepEqual(
      [life.pod, life.before],
      [heir.id, held.includes(life.step_id) ? [{ ended: 'pod_died', attempt: 1, pod: second.id }] : []],
    )
  await assertSound(sql)
  await endPods(heir)
})

test('a pod that is asked to end while it starts ends, and holds nothing up', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const heir = await startPod(url)
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
  // Its claims would wait: whatever it takes while it starts, it has to give back or lose.
  const child = spawn(process.execPath, ['--import', 'tsx', main], {
    stdio: 'ignore',
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      DATABASE_URL: url,
      FLEET_Q_API_PORT: '0',
      FLEET_Q_HANDLERS: HANDLERS,
      ...FAST,
    },
  })
  let how: string | undefined
  child.once('exit', (code, signal) => (how = String(code ?? signal)))
  atEnd(() => void child.kill('SIGKILL'))
  const id = await until('it to be registered', async () => {
    const [row] = await sql<{ public_id: string }[]>`
      select public_id from fleet_q.pods where public_id <> ${heir.id}`
    return row?.public_id
  })
  child.kill('SIGTERM')
  const ended = await until('it to end', () => how)
  assert.ok(['0', 'SIGTERM'].includes(ended), `it ended with ${ended}`)
  const ids = await submitMany(heir, 12, (n) => ({ type: 'polite', args: { file: file.path, ms: 10, n } }))
  await until('it not to count as living', async () => (await podRow(sql, { id })).status !== 'live')
  await allSettled(sql)
  for (const life of await lives(sql, ids)) assert.deepEqual([life.status, life.pod], ['completed', heir.id])
  await endPods(heir)
})

test('a pod that an operator drains takes nothing, finishes what it has, and takes again when the wish is taken back', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pod = await startPod(url, { ...PATIENT, FLEET_Q_HEARTBEAT_SECONDS: '0.3' })
  const drain = (enabled: boolean) => post(pod.url, `/admin/pods/${pod.id}/drain`, { enabled })
  const run = (count: number, ms: number) =>
    submitMany(pod, count, () => ({ type: 'polite', args: { file: file.path, ms } }))
  const [held] = await run(1, 1500)
  await until('the first to run', () => file.starts().length === 1)

  const { status, body } = await drain(true)
  assert.deepEqual([status, body['draining']], [200, true])
  const later = await run(5, 0)
  await until('what it held to be finished', async () => (await outcomesSoFar(sql)) === 1)
  assert.equal((await lives(sql, [held ?? '']))[0]?.status, 'completed')
  await until(
    'it to say that it drains',
    async () => (await get(pod.url, '/readyz')).body['status'] === 'draining',
  )
  // Twice it has been asked by now: when they were submitted, and when its slot came free.
  assert.equal(file.starts().length, 1, 'it took nothing')
  assert.deepEqual(await heldBy(sql, pod), [])

  assert.equal((await drain(false)).body['draining'], false)
  await allSettled(sql)
  for (const life of await lives(sql, later)) assert.deepEqual([life.status, life.pod], ['completed', pod.id])
  await endPods(pod)
})
