import assert from 'node:assert/strict'
import { test } from 'node:test'
import type postgres from 'postgres'
import { testDatabase } from '../support/database.ts'
import { submit } from '../support/http.ts'
import { until } from '../support/until.ts'
import {
  allSettled,
  assertSound,
  endPods,
  lifeOf,
  lives,
  startPod,
  startPods,
  startsFile,
  submitMany,
} from './fleet.ts'

const KILLS = 6
const STEPS_PER_KILL = 60

/** Handlers of this pod that have written their row and not settled: transactions that are open and idle. */
const written = async (sql: postgres.Sql, pod: { id: string }): Promise<number> => {
  const [row] = await sql<{ n: number }[]>`
    select count(*)::int as n from pg_stat_activity
    where datname = current_database() and application_name like ${`fleet-q transactions % ${pod.id}`}
      and state = 'idle in transaction' and query like '%public.ledger%'`
  return row?.n ?? 0
}

test('pods are killed between a write and its settle, again and again: one row a completed step, none for others', async (t) => {
  const { url, sql } = await testDatabase()
  await sql`create table public.ledger (step_id text, attempt int, n int)`
  const file = startsFile()
  const roomy = { FLEET_Q_MAX_PARALLELISM: '15' }
  const pods = await startPods(url, 3, roomy)
  let undone = 0
  for (let kill = 0; kill < KILLS; kill++) {
    const [door] = pods
    assert.ok(door)
    await submitMany(door, STEPS_PER_KILL, (n) => ({
      type: 'ledger',
      args: { file: file.path, ms: 400, n },
      max_retries: 20,
    }))
    const victim = pods.pop()
    assert.ok(victim)
    // Frozen first, so that what is seen to be written is still not settled when it dies.
    undone += await until('the victim to be caught between writes and settles', async () => {
      if ((await written(sql, victim)) === 0) return undefined
      victim.signal('SIGSTOP')
      const caught = await written(sql, victim)
      if (caught > 0) return caught
      victim.signal('SIGCONT')
      return undefined
    })
    await endPods(victim)
    pods.unshift(await startPod(url, roomy))
  }
  await allSettled(sql)
  await assertSound(sql)

  const rows = await sql<{ step_id: string; attempt: number }[]>`select step_id, attempt from public.ledger`
  const all = await lives(sql)
  assert.equal(all.length, KILLS * STEPS_PER_KILL)
  const completed = all.filter((life) => life.status === 'completed')
  const spelled = (some: { step_id: string; attempt: number | null }[]) =>
    some.map(({ step_id, attempt }) => `${step_id} in attempt ${attempt}`).toSorted()
  assert.deepEqual(
    spelled(rows),
    spelled(completed),
    'one row a completed step, of the attempt that completed it, and no other',
  )
  // Whoever was unlucky three times is taken for poison, and must have written nothing.
  assert.ok(all.filter((life) => life.status !== 'completed').every((life) => life.reason === 'poison'))
  assert.ok(file.starts().length >= all.length + undone)
  t.diagnostic(
    `${KILLS} kills undid ${undone} writes; ${completed.length} of ${all.length} completed in ${file.starts().length} starts`,
  )
  await endPods(...pods)
})

test('a handler that writes on after its transaction is over writes nothing, anywhere', async () => {
  const { url, sql } = await testDatabase()
  await sql`create table public.ledger (step_id text, attempt int, n int)`
  const file = startsFile()
  const pod = await startPod(url)
  const id = await submit(pod.url, {
    type: 'writes-too-late',
    args: { file: file.path, ms: 2000, n: 1 },
    timeout_seconds: 0.2,
    max_retries: 0,
  })
  await until('the step to be given up', async () => (await lifeOf(sql, id)).reason === 'timeout')
  const late = await until('the handler to try', () => file.lines().find((line) => line.startsWith('late')))
  assert.match(late, /refused .*This transaction is over/)
  assert.deepEqual([...(await sql`select * from public.ledger`)], [])
  await endPods(pod)
})
