import assert from 'node:assert/strict'
import { test } from 'node:test'
import type postgres from 'postgres'
import { beatHeart } from '../../src/pod/pod.sql.ts'
import { declareDead } from '../../src/recovery/recovery.sql.ts'
import { runCycle } from '../../src/recovery/run-cycle.ts'
import { testDatabase } from '../support/database.ts'
import { makeClaims, makePod, makeTerm } from './rows.ts'

/** Whom the leader would declare dead now. Nothing of it stays. */
async function deadFor(sql: postgres.Sql, leader: string): Promise<string[]> {
  let ids: string[] = []
  await sql
    .begin(async (tx) => {
      await tx`update fleet_q.leader_terms set ended_at = fleet_q.clock(), ended_why = 'made so' where ended_at is null`
      const term = await makeTerm(tx as unknown as postgres.Sql, leader)
      ids = (await declareDead(tx, leader, term, 100)).map((pod) => pod.id)
      throw new Error('only looked')
    })
    .catch((error: unknown) => {
      if (!(error instanceof Error && error.message === 'only looked')) throw error
    })
  return ids.toSorted()
}

const { sql, database } = await testDatabase()
// The clock stands still, so that silence is what a test makes of it and not what a busy machine adds; and it stands
// in the future, for Postgres itself has been up for moments only, and that counts for the pods.
await sql.unsafe(`create or replace function fleet_q.clock() returns timestamptz language sql stable
  as 'select timestamptz ''2040-01-01 00:00:00+00'''`)

/** The brake looks at the whole fleet: each test begins with none. */
const noPods = () =>
  sql`truncate fleet_q.pods, fleet_q.leader_terms, fleet_q.recovery_cycles, fleet_q.claims cascade`

test('a pod is dead when it was silent for longer than its own threshold, and not before', async () => {
  await noPods()
  const chief = await makePod(sql)
  await makePod(sql, { silentMs: 14_000 })
  await makePod(sql, { silentMs: 0 })
  const silent = await makePod(sql, { silentMs: 16_000 })
  // Its promise is its own: how long it may be silent stands in its row.
  await makePod(sql, { silentMs: 16_000, deadAfterMs: 60_000 })
  assert.deepEqual(await deadFor(sql, chief), [silent])
})

test('when most of a fleet falls silent at once, each has a second threshold to report', async () => {
  await noPods()
  const chief = await makePod(sql)
  await makePod(sql, { silentMs: 16_000 })
  await makePod(sql, { silentMs: 16_000 })
  assert.deepEqual(await deadFor(sql, chief), [])
  const long = await makePod(sql, { silentMs: 31_000 })
  assert.deepEqual(await deadFor(sql, chief), [long])
})

test('a leader that comes back from an absence declares nobody dead for one threshold', async () => {
  await noPods()
  const chief = await makePod(sql, { resumedMs: 14_000 })
  await makePod(sql)
  const silent = await makePod(sql, { silentMs: 60_000 })
  assert.deepEqual(await deadFor(sql, chief), [])
  await sql`update fleet_q.pods set resumed_at = fleet_q.clock() - interval '16 s', beat_at = fleet_q.clock()
    where id = ${chief}`
  assert.deepEqual(await deadFor(sql, chief), [silent])
})

test('a leader whose own heart has not reported since the outage declares nobody dead', async () => {
  await noPods()
  // The database is back, and the leader's round comes before its own next beat.
  const chief = await makePod(sql, { silentMs: 60_000 })
  await makePod(sql, { silentMs: 60_000 })
  await makePod(sql, { silentMs: 60_000 })
  assert.deepEqual(await deadFor(sql, chief), [])
})

test('a pod that was born a moment ago, and leads, declares nobody dead for one threshold', async () => {
  await noPods()
  // It started when the network came back, and was the first to report.
  const chief = await makePod(sql, { ageMs: 14_000 })
  const others = [await makePod(sql, { silentMs: 60_000 }), await makePod(sql, { silentMs: 60_000 })]
  assert.deepEqual(await deadFor(sql, chief), [])
  await sql`update fleet_q.pods set born_at = fleet_q.clock() - interval '16 s', beat_at = fleet_q.clock()
    where id = ${chief}`
  assert.deepEqual(await deadFor(sql, chief), others.toSorted())
})

test('an outage that cost others their threshold is seen in the leader’s own heart', async () => {
  await noPods()
  // Ten seconds. The leader's last beat left just before, so its gap is the shortest there can be; another one's was due
  // when the outage began, and it has been silent for a beat longer.
  const chief = await makePod(sql, { silentMs: 10_000 })
  await beatHeart(sql, { id: chief, heartbeatMs: 5000, running: 0, stuck: 0 })
  await makePod(sql, { silentMs: 15_500 })
  for (let others = 0; others < 3; others++) await makePod(sql)
  assert.deepEqual(await deadFor(sql, chief), [])
})

test('a pod that was declared dead never beats again', async () => {
  await noPods()
  const beat = (id: string) => beatHeart(sql, { id, heartbeatMs: 50, running: 0, stuck: 0 })
  const [live, draining] = [await makePod(sql), await makePod(sql, { status: 'draining' })]
  assert.deepEqual([(await beat(live))[0]?.status, (await beat(draining))[0]?.status], ['live', 'draining'])
  for (const status of ['dead', 'gone'] as const)
    assert.equal((await beat(await makePod(sql, { status }))).length, 0)
})

test('a beat is at the time of the database, whatever the machine of its pod believes', async () => {
  await noPods()
  const chief = await makePod(sql)
  const back = await makePod(sql, { silentMs: 14_000 })
  await beatHeart(sql, { id: back, heartbeatMs: 5000, running: 0, stuck: 0 })
  const [row] = await sql`select beat_at = fleet_q.clock() as now from fleet_q.pods where id = ${back}`
  assert.deepEqual(row, { now: true })
  await makePod(sql)
  assert.deepEqual(await deadFor(sql, chief), [])
})

test('a pod that was started again under its name does not keep its former self alive', async () => {
  await noPods()
  const chief = await makePod(sql, { name: 'chief' })
  const former = await makePod(sql, { name: 'phoenix', silentMs: 16_000 })
  const self = await makePod(sql, { name: 'phoenix', ageMs: 10_000 })
  await beatHeart(sql, { id: self, heartbeatMs: 5000, running: 0, stuck: 0 })
  assert.deepEqual(await deadFor(sql, chief), [former])
})

test('a step that two pods died of comes back apart from its neighbours, the third time it is poison', async () => {
  await noPods()
  const chief = await makePod(sql)
  const term = await makeTerm(sql, chief)
  const spreadMs = 10_000
  await sql`truncate fleet_q.steps, fleet_q.ready, fleet_q.later, fleet_q.attempts, fleet_q.outcomes cascade`
  for (const [death, place] of [
    [1, 'ready'],
    [2, 'later'],
    [3, 'outcome'],
  ] as const) {
    const dead = await makePod(sql, { status: 'dead' })
    if (death === 1) await makeClaims(sql, [dead], { claims: 1, perClaim: 20, maxRetries: 5 })
    else
      await sql`
        with waiting as (
          select step_id, attempt from fleet_q.ready union all select step_id, attempt from fleet_q.later
        ), gone as (delete from fleet_q.ready), gone_too as (delete from fleet_q.later)
        insert into fleet_q.claims (pod_id, step_ids, attempts)
        select ${dead}, array_agg(step_id order by step_id), array_agg(attempt order by step_id) from waiting`
    const summary = await runCycle({ database, podId: chief, term, spreadMs })
    assert.equal(summary.orphaned, 20)
    assert.equal(place === 'outcome' ? summary.terminal : summary.requeued, 20)
    const [row] = await sql<
      { ready: number; later: number; poison: number; front: boolean; spread: number }[]
    >`
      select (select count(*)::int from fleet_q.ready where attempt = ${death + 1}) as ready,
        (select count(*)::int from fleet_q.later where attempt = ${death + 1} and why = 'spread') as later,
        (select count(*)::int from fleet_q.dead_letters where reason = 'poison') as poison,
        (select coalesce(bool_and(position < 0), false) from fleet_q.ready) as front,
        (select coalesce(extract(epoch from max(due_at) - min(due_at)), 0)::float8 * 1000 from fleet_q.later) as spread`
    assert.deepEqual(
      [row?.ready, row?.later, row?.poison],
      [place === 'ready' ? 20 : 0, place === 'later' ? 20 : 0, place === 'outcome' ? 20 : 0],
    )
    assert.equal(row?.front, place === 'ready', 'put back before everything that was ever submitted')
    // Twenty moments within ten seconds lie further apart than one unless chance is broken (odds below 10^-18).
    if (place === 'later') assert.ok(row.spread > 1000 && row.spread <= spreadMs)
  }
})
