import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assertSound } from '../recovery/fleet.ts'
import { testDatabase } from '../support/database.ts'
import { get, post, submit } from '../support/http.ts'
import { startOwnPostgres } from '../support/postgres.ts'
import { startPodProcess, type PodProcess } from '../support/processes.ts'
import { until } from '../support/until.ts'
import { assertAway, startLoad } from './load.ts'

/**
 * Postgres goes away while three pods work, and comes back. No process ends, nothing that was accepted is lost, and
 * nobody is declared dead for it.
 */

const server = await startOwnPostgres()
const db = await testDatabase({ serverUrl: server.url })
await db.sql`create table public.ledger (step_id text, attempt int, n int)`
// A busy machine must not make a pod look dead, and an outage is longer than this.
const DEAD_AFTER_SECONDS = 2.5
const PATIENT = { FLEET_Q_HEARTBEAT_SECONDS: '0.5', FLEET_Q_DEAD_AFTER_SECONDS: String(DEAD_AFTER_SECONDS) }
const pods = await Promise.all([1, 2, 3].map(() => startPodProcess(db.url, PATIENT)))
const urls = pods.map((pod) => pod.url)
const [first] = urls as [string]

let ended = 0
for (const pod of pods) void pod.exited.then(() => ended++)

const healthOf = async (pod: PodProcess) => (await get(pod.url, '/health')).body
const allReady = () =>
  until('all pods to be ready', async () => {
    const replies = await Promise.all(urls.map((url) => get(url, '/readyz')))
    return replies.every(({ status }) => status === 200)
  })
const settledAll = (ids: ReadonlySet<string>) =>
  until('everything that was accepted to complete', async () => {
    const [row] = await db.sql<{ n: number }[]>`
      select count(*)::int as n from fleet_q.outcomes join fleet_q.steps on steps.id = step_id
      where status = 'completed' and fleet_q.step_public_id(steps.id, salt, created_at) = any (${[...ids]}::text[])`
    return row?.n === ids.size
  })
/** The leader has had rounds of chores, with every chance to declare somebody dead. */
const leaderHasLooked = (seconds: number) =>
  until(`${seconds} s of rounds of the leader`, async () => {
    const [row] = await db.sql<{ enough: boolean }[]>`
      select proved_at > pg_postmaster_start_time() + make_interval(secs => ${seconds}) as enough
      from fleet_q.leader_terms where ended_at is null`
    return row?.enough
  })

async function assertUnharmed() {
  const rows = await db.sql<
    { status: string; refused: number }[]
  >`select status, refused::int from fleet_q.pods`
  assert.deepEqual(
    [...rows],
    pods.map(() => ({ status: 'live', refused: 0 })),
  )
  assert.equal(ended, 0, 'a pod ended')
  const dead = await db.sql`select 1 from fleet_q.recovery_cycles where cardinality(dead_pods) > 0`
  assert.equal(dead.length, 0)
  await assertSound(db.sql)
}

for (const how of ['fast', 'immediate', 'kill'] as const)
  test(`Postgres is stopped (${how}) and started again under load: all that was accepted completes`, async () => {
    await allReady()
    const load = startLoad(urls, { type: 'polite', args: { ms: 30 } })
    await until('the load to run', () => load.ids.size > 50)
    await server.stop(how)
    await until('submits to be refused', () => load.refusals.length > 20)
    for (const pod of pods) {
      const asked = performance.now()
      assertAway(await post(pod.url, '/submit', { type: 'polite', args: {} }))
      assert.ok(performance.now() - asked < 20_000, 'a submit waited for longer than its deadline')
      await until(
        'health to say that the database is away',
        async () => (await healthOf(pod))['database'] === 'away',
      )
      const ready = await get(pod.url, '/readyz')
      assert.deepEqual([ready.status, ready.body['status']], [503, 'database_away'])
      assert.equal((await get(pod.url, '/health')).status, 200)
    }
    await server.start()
    const upAt = performance.now()
    const before = load.ids.size
    await until('submits to be accepted again', () => load.ids.size > before + 20)
    await allReady()
    assert.ok(
      performance.now() - upAt < 30_000,
      `the pods were back only after ${performance.now() - upAt} ms`,
    )
    await load.stop()
    for (const refusal of load.refusals) assertAway(refusal)
    await settledAll(load.ids)
    await assertUnharmed()
  })

test('Postgres is away for longer than a pod may be silent: handlers let go, nobody is declared dead, all goes on', async () => {
  await allReady()
  const long = await submit(first, { type: 'polite', args: { ms: 600_000 } })
  const short = await submit(first, { type: 'deaf', args: { ms: 500 } })
  const status = async (id: string) => (await get(first, `/status/${id}`)).body
  await until(
    'both to run',
    async () => (await status(long))['tray'] === 'claimed' && (await status(short))['tray'] === 'claimed',
  )
  const said = pods.map((pod) => pod.output().length)
  const saidSince = (n: number) => (pods[n]?.output() ?? '').slice(said[n]).split('\n')
  await server.stop('fast')
  for (const n of pods.keys())
    await until('the pod to let go', () =>
      saidSince(n).some((line) => /handlers are aborted before others/.test(line)),
    )
  await until('every pod to have been silent for two thresholds', async () => {
    const ages = await Promise.all(
      pods.map(async (pod) => {
        const { loops } = await healthOf(pod)
        return (loops as Record<string, { age_seconds: number }>)['heartbeat']?.age_seconds ?? 0
      }),
    )
    return ages.every((age) => age > DEAD_AFTER_SECONDS * 2 + 0.2)
  })
  await server.start()
  await allReady()
  await until('the step that was let go to run again', async () => {
    const { tray, attempts } = await status(long)
    return (
      tray === 'claimed' && (attempts as { ended: string | null }[]).some(({ ended }) => ended === 'released')
    )
  })
  assert.equal((await status(long))['retry_count'], 0, 'the outage cost it an attempt')
  await until('the other to complete', async () => (await status(short))['status'] === 'completed')
  await leaderHasLooked(DEAD_AFTER_SECONDS * 2 + 1)
  await assertUnharmed()
  assert.equal((await post(first, `/steps/${long}/cancel`)).status, 200)

  // Warnings and worse, for one outage: a handful a pod, not one for each beat that failed.
  for (const n of pods.keys()) {
    const loud = saidSince(n).filter((line) => /^\{"level":"(warn|error|fatal)/.test(line))
    assert.ok(loud.length > 0)
    assert.ok(loud.length < 30, `${loud.length} loud lines, such as\n${loud.slice(0, 10).join('\n')}`)
  }
})

test('backends are terminated all the time, whatever they do: no process ends, nothing is lost or done twice', async () => {
  await allReady()
  const load = startLoad(urls, { type: 'polite', args: { ms: 10 } })
  const ledgers = Promise.all(
    Array.from({ length: 12 }, (_, n) =>
      submit(first, {
        type: 'ledger',
        args: { n, ms: 200 },
        max_retries: 50,
        retry: { strategy: 'fixed', base_ms: 20 },
      }),
    ),
  )
  const killed = { work: 0, door: 0, heart: 0, listen: 0, transactions: 0 }
  const kinds = Object.keys(killed) as (keyof typeof killed)[]
  const inTransaction = await ledgers.then(async (ids) => {
    for (let round = 0; Object.values(killed).some((count) => count < 6) && round < 400; round++) {
      const kind = kinds[round % kinds.length] ?? 'work'
      const rows = await db.sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name like ${`fleet-q ${kind} %`}
        order by random() limit 1`
      killed[kind] += rows.length
      await new Promise((resolve) => setTimeout(resolve, 30))
    }
    return ids
  })
  for (const kind of kinds) assert.ok(killed[kind] >= 6, `${kind}: only ${killed[kind]} were terminated`)
  await load.stop()
  for (const refusal of load.refusals) assertAway(refusal)
  await settledAll(load.ids)
  await settledAll(new Set(inTransaction))
  // What a handler wrote through its transaction is there once for each step, however often it was cut off.
  const rows = await db.sql<{ step_id: string }[]>`select step_id from public.ledger`
  assert.deepEqual(rows.map((row) => row.step_id).toSorted(), inTransaction.toSorted())
  await assertUnharmed()
})

test('somebody locks the tables of steps for longer than a pod may be silent: nobody is declared dead, all goes on', async () => {
  await allReady()
  const load = startLoad(urls, { type: 'polite', args: { ms: 10 } })
  await until('the load to run', () => load.ids.size > 20)
  await db.sql.begin(async (migration) => {
    // One that waits for the second while it has the first would deadlock with a statement that has them the other way.
    await until('the locks to be had at once', () =>
      migration
        .savepoint((tx) => tx`lock table fleet_q.steps, fleet_q.ready, fleet_q.outcomes nowait`)
        .then(
          () => true,
          (error: { code?: string }) => {
            if (error.code !== '55P03') throw error
            return false
          },
        ),
    )
    const [begun] = await migration<{ at: Date }[]>`select clock_timestamp() as at`
    await until('every pod to have beaten for more than a threshold meanwhile', async () => {
      const [row] = await db.sql<{ enough: boolean }[]>`
        select bool_and(beat_at > ${begun?.at.toISOString() ?? ''}::timestamptz + make_interval(secs => ${DEAD_AFTER_SECONDS + 1})) as enough
        from fleet_q.pods where status = 'live'`
      return row?.enough
    })
  })
  const before = load.ids.size
  await until('submits to be accepted again', () => load.ids.size > before + 20)
  await load.stop()
  for (const refusal of load.refusals) assertAway(refusal)
  await settledAll(load.ids)
  await assertUnharmed()
})

test('a pod that is asked to end while the database is away ends by itself, with code 0', async () => {
  const pod = await startPodProcess(db.url, { ...PATIENT, FLEET_Q_GRACE_SECONDS: '1' })
  const id = await submit(first, { type: 'polite', args: { ms: 60_000 }, tags: ['leaving'] })
  await until('a step to run', async () => (await get(first, `/status/${id}`)).body['tray'] === 'claimed')
  await server.stop('fast')
  await until('it to notice', async () => (await healthOf(pod))['database'] === 'away')
  pod.signal('SIGTERM')
  await until('it to end', () => pod.isOver)
  assert.deepEqual(await pod.exited, { code: 0, signal: null })
  await server.start()
  await allReady()
})
