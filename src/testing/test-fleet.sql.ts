import type { Sql } from '../db/connect.ts'
import type { OrphanClaim } from '../recovery/recovery.sql.ts'

/** How far the clock of this database is ahead of the server's. One row, and every snapshot sees one time. */
export const makeClockTable = (sql: Sql) => sql`
  create /* testing.clock_table */ table if not exists fleet_q.test_clock (ahead interval not null)`

export const startAtNow = (sql: Sql) => sql`
  insert /* testing.start_clock */ into fleet_q.test_clock (ahead)
  select '0' where not exists (select from fleet_q.test_clock)`

export const replaceClock = (sql: Sql) => sql`
  create /* testing.replace_clock */ or replace function fleet_q.clock() returns timestamptz language sql stable
  as 'select now() + (select ahead from fleet_q.test_clock)'`

/**
 * Nobody beats, proves or hands in while the clock jumps. A beat that waited for the row of its pod alone would write the
 * time of its own snapshot, from before the jump, and the pod would look as if it had been silent ever since.
 */
export const holdHearts = (sql: Sql) => sql`
  lock /* testing.hold_hearts */ table fleet_q.pods, fleet_q.leader_terms in share row exclusive mode`

export const moveClock = (sql: Sql, ms: number) => sql<{ ahead_ms: number }[]>`
  update /* testing.move_clock */ fleet_q.test_clock set ahead = ahead + make_interval(secs => ${ms}::float8 / 1000)
  returning extract(epoch from ahead)::float8 * 1000 as ahead_ms`

/**
 * What the jump must not age, for it is only as old as it really is: the last beat of who lives, the last proof of who
 * leads, claims that are being worked on, and a recovery cycle under way. All else grows older, as it would.
 */
export const moveAlong = (sql: Sql, ms: number) => sql`
  with /* testing.move_along */ hearts as (
    update fleet_q.pods set beat_at = beat_at + make_interval(secs => ${ms}::float8 / 1000)
    where status in ('live', 'draining')
  ),
  terms as (
    update fleet_q.leader_terms set proved_at = proved_at + make_interval(secs => ${ms}::float8 / 1000)
    where ended_at is null
  ),
  held as (
    update fleet_q.claims set taken_at = taken_at + make_interval(secs => ${ms}::float8 / 1000)
  )
  update fleet_q.recovery_cycles set started_at = started_at + make_interval(secs => ${ms}::float8 / 1000)
  where finished_at is null`

/** Null where no time moves it on. */
export const findDueMs = (sql: Sql, stepId: string) => sql<{ due_ms: number | null }[]>`
  select /* testing.due */ extract(epoch from due_at - fleet_q.clock())::float8 * 1000 as due_ms
  from fleet_q.later where step_id = ${stepId}`

/**
 * An execution says for how long it goes to sleep, and the clock may jump before that is written: it would sleep through
 * the jump once more. Its checkpoint knows until when. No row: it sleeps in time.
 */
export const endSleepInTime = (sql: Sql, stepId: string) => sql<{ over: boolean; due_at: Date }[]>`
  update /* testing.end_in_time */ fleet_q.later set due_at = open.due_at
  from (
    select min(due_at) as due_at from fleet_q.checkpoints where step_id = ${stepId} and turn is null
  ) as open
  where later.step_id = ${stepId} and later.why::text in ('sleep', 'wait') and later.due_at > open.due_at
  returning later.due_at <= fleet_q.clock() as over, later.due_at`

/** Whether it lies where only time, an event, another step or a person moves it on; and until when. */
export const whereIs = (sql: Sql, stepId: string) => sql<
  { ended: boolean; asleep: boolean; due_at: Date | null }[]
>`
  select /* testing.where */ outcomes.step_id is not null as ended,
    later.step_id is not null and (later.due_at is null or later.due_at > fleet_q.clock()) as asleep, later.due_at
  from fleet_q.steps
  left join fleet_q.later on later.step_id = steps.id
  left join fleet_q.outcomes on outcomes.step_id = steps.id
  where steps.id = ${stepId}`

/** One step of a claim, as recovery finds it when the pod has died. No row: the claim is gone. */
export const findOrphan = (sql: Sql, claimId: string, stepId: string) => sql<OrphanClaim[]>`
  select /* testing.orphan */ claims.id, claims.pod_id, pods.public_id as pod, true as died, claims.taken_at,
    array[held.step_id] as step_ids, array[held.attempt] as attempts
  from fleet_q.claims
  cross join unnest(claims.step_ids, claims.attempts) as held (step_id, attempt)
  join fleet_q.pods on pods.id = claims.pod_id
  where claims.id = ${claimId} and held.step_id = ${stepId}
  for key share of claims`
