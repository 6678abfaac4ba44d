import type { Sql } from '../db/connect.ts'

/** How an attempt ended, as the pod that ran it reports it. Arrays of equal length go to the database. */
export interface Report {
  claimId: string
  stepId: string
  attempt: number
  /** Set for the last attempt. */
  outcome: 'completed' | 'failed' | 'cancelled' | 'skipped' | null
  /** Set for an attempt that is followed by another, and for the last one of a step that is given up. */
  ended: 'failed' | 'timeout' | 'pod_died' | 'poison' | 'retried' | 'snoozed' | 'released' | null
  result: string | null
  error: string | null
  ranMs: number
  /** When and as which attempt it comes back. */
  delayMs: number | null
  nextAttempt: number | null
}

export interface ClaimedStep {
  kind: 'claimed'
  claim_id: string
  step_id: string
  attempt: number
  lane_id: number
  position: string
  salt: string
  created_at: Date
  type: string
  priority: number
  args: Record<string, unknown>
  metadata: Record<string, unknown> | null
  max_retries: number
  timeout_ms: number | null
  retry: Record<string, unknown> | null
  tags: string[] | null
  expired: boolean
}

/** An answer that changed nothing: its claim is gone, or the step has its outcome already. */
export interface RefusedReport {
  kind: 'fenced' | 'superseded'
  claim_id: string
  step_id: string
}

/** Steps that were taken out of their lanes and will not run: they had been cancelled. */
export interface DroppedSteps {
  kind: 'dropped'
}

export interface Want {
  podId: string
  types: string[]
  limit: number
  /** Lanes are visited in a circle: this one was served last. */
  afterLane: number
  markLanes: number[]
  markPositions: string[]
}

/**
 * The part that settles. The claim rows of a report are locked (or, for claims that end with it, deleted): release
 * and recovery delete the same rows, so the two exclude each other, and a report whose claim is gone inserts
 * nothing. `$podId` guards against a report under another pod's claim.
 *
 * Two habits keep every plan the same whatever the statistics say; test/sql/plans.test.ts holds us to them.
 * `offset 0` makes a look at a big table a look-up for each row: without it the planner joins, and a plan that was
 * made while the tables were empty hashes all of `outcomes` for a claim of one. `(... in (...)) is true` and `not in`
 * stay hashed sets: as joins of CTEs, whose size the planner guesses, they become loops within loops. `pod_id + 0`
 * keeps `claims_pod` out of a search by key: behind a held-back xmin horizon that index holds every claim that the
 * pod ever had.
 */
const settling = (sql: Sql, podId: string, reports: Report[], endedClaims: string[]) => sql`
  report as materialized (
    select * from unnest(
      ${reports.map((r) => r.claimId)}::bigint[], ${reports.map((r) => r.stepId)}::bigint[],
      ${reports.map((r) => r.attempt)}::smallint[], ${reports.map((r) => r.outcome)}::text[],
      ${reports.map((r) => r.ended)}::text[], ${reports.map((r) => r.result)}::text[],
      ${reports.map((r) => r.error)}::text[], ${reports.map((r) => r.ranMs)}::float8[],
      ${reports.map((r) => r.delayMs)}::float8[], ${reports.map((r) => r.nextAttempt)}::smallint[]
    ) as r (claim_id, step_id, attempt, outcome, ended, result, error, ran_ms, delay_ms, next_attempt)
  ),
  ended_claim as (
    delete from fleet_q.claims where id = any (${endedClaims}::bigint[]) and pod_id + 0 = ${podId}
    returning id
  ),
  standing_claim as materialized (
    select id from fleet_q.claims
    where id = any (array(select claim_id from report except select unnest(${endedClaims}::bigint[])))
      and pod_id + 0 = ${podId}
    order by id
    for key share
  ),
  fence as materialized (select id from ended_claim union all select id from standing_claim),
  valid as materialized (select report.* from report where claim_id = any (array(select id from fence))),
  settled as (
    insert into fleet_q.outcomes (step_id, status, attempt, claim_id, pod_id, started_at, settled_at, result, error)
    select step_id, outcome::fleet_q.outcome_status, attempt, claim_id, ${podId},
      fleet_q.clock() - make_interval(secs => ran_ms / 1000), fleet_q.clock(), result::jsonb, error::jsonb
    from valid where outcome is not null
      -- Redriven since: a report that is sent twice, its answer lost, must not end the step for a second time.
      and not exists (
        select from fleet_q.attempts
        where attempts.step_id = valid.step_id and attempts.claim_id = valid.claim_id offset 0)
    -- In key order, as a batch of cancels: two that insert the same keys crosswise would deadlock.
    order by step_id
    on conflict (step_id) do nothing
    returning step_id, claim_id
  ),
  given_up as (
    insert into fleet_q.dead_letters (step_id, reason)
    select step_id,
      (case when ended in ('timeout', 'poison') then ended else 'exhausted' end)::fleet_q.dead_letter_reason
    from valid where outcome = 'failed' and ((step_id, claim_id) in (select step_id, claim_id from settled)) is true
    order by step_id
    on conflict (step_id) do nothing
  ),
  tried as (
    insert into fleet_q.attempts (step_id, claim_id, attempt, pod_id, ended, started_at, ended_at, error)
    select step_id, claim_id, attempt, ${podId}, ended::fleet_q.attempt_end,
      fleet_q.clock() - make_interval(secs => ran_ms / 1000), fleet_q.clock(), error::jsonb
    from valid where outcome is null
    order by step_id, claim_id
    on conflict (step_id, claim_id) do nothing
    returning step_id, claim_id
  ),
  again as materialized (
    select * from valid where outcome is null and ((step_id, claim_id) in (select step_id, claim_id from tried)) is true
  ),
  back_later as (
    insert into fleet_q.later (step_id, lane_id, due_at, attempt, why)
    select valid.step_id, step.lane_id,
      -- NaN, infinity or a thousand years, as a handler may ask: refused here, it would be handed in again for ever,
      -- and everything else of its batch with it. NaN counts as larger than any number.
      fleet_q.clock() + make_interval(secs => least(valid.delay_ms, ${DELAY_MS_MAX}::float8) / 1000),
      valid.next_attempt, (case when valid.ended = 'snoozed' then 'snooze' else 'retry' end)::fleet_q.later_why
    from again as valid
    cross join lateral (select lane_id from fleet_q.steps where id = valid.step_id offset 0) as step
    where valid.delay_ms > 0
    order by valid.step_id
    on conflict (step_id) do nothing
  ),
  back_ready as (
    insert into fleet_q.ready (lane_id, position, step_id, attempt)
    select step.lane_id,
      -- What was released has waited its turn already: it goes to the front of its lane, in order.
      nextval('fleet_q.positions') - case when valid.ended = 'released' then ${FRONT}::bigint else 0 end,
      valid.step_id, valid.next_attempt
    from again as valid
    cross join lateral (select lane_id from fleet_q.steps where id = valid.step_id offset 0) as step
    where coalesce(valid.delay_ms, 0) <= 0
    order by valid.step_id
  ),
  doubtful as materialized (
    select claim_id, step_id, outcome, ended from report
    where (step_id, claim_id) not in (
      select step_id, claim_id from settled union all select step_id, claim_id from tried)
  ),
  refused as materialized (
    select claim_id, step_id,
      case when claim_id = any (array(select id from fence)) then 'superseded' else 'fenced' end as kind
    from doubtful
    -- Handed in before, with an answer that was lost on the way: that is no refusal. It must be this very report:
    -- recovery writes under the same claim (pod_died, failed), and a late answer after that is refused, or what its
    -- handler wrote through ctx.tx would be committed beside what the next attempt writes.
    where not exists (
        select from fleet_q.outcomes as o
        where o.step_id = doubtful.step_id and o.claim_id = doubtful.claim_id
          and o.status::text = doubtful.outcome offset 0)
      and not exists (
        select from fleet_q.attempts as a
        where a.step_id = doubtful.step_id and a.claim_id = doubtful.claim_id
          and doubtful.outcome is null and a.ended::text = doubtful.ended offset 0)
  ),
  counted as (
    update fleet_q.pods set refused = refused + (select count(*) from refused where kind = 'fenced')
    where id = ${podId} and exists (select from refused where kind = 'fenced')
  )`

/** This pod may claim, and the lane is not paused. */
const isOpen = (sql: Sql, podId: string) => sql`(
  exists (select from fleet_q.pods where id = ${podId} and status = 'live' and not drain_wanted)
  and not exists (
    select from fleet_q.pauses as pause
    where (pause.type is null or pause.type = lanes.type) and (pause.key is null or pause.key = lanes.key)
      and (pause.until is null or pause.until > fleet_q.clock())
  ))`

/** Ten years. */
const DELAY_MS_MAX = 10 * 365 * 86_400_000

/** Positions below zero lie in front of everything that was ever submitted, and keep their order. */
export const FRONT = (2n ** 62n).toString()

/** From the lanes, in their order and each within its quota, into one claim row. */
const taking = (sql: Sql, want: Pick<Want, 'podId' | 'limit'>) => sql`
  candidate as materialized (
    select head.* from lane cross join lateral (
      select ready.ctid as at from fleet_q.ready
      where ready.lane_id = lane.id and ready.position > lane.mark
      order by ready.lane_id, ready.position
      limit least(lane.quota, ${want.limit}::int)
      for update skip locked
    ) as head
    limit ${want.limit}
  ),
  taken as (
    delete from fleet_q.ready where ctid = any (array(select at from candidate))
    returning lane_id, position, step_id, attempt
  ),
  -- A step that was cancelled while it lay here has its outcome: taking it out of the tray is all there is to do.
  -- The same for one whose letter retention has thrown away meanwhile.
  live as materialized (
    select taken.*, step.salt, step.created_at, step.args, step.metadata, step.max_retries, step.timeout_ms,
      step.retry, step.tags, step.expires_at
    from taken
    cross join lateral (select * from fleet_q.steps where id = taken.step_id offset 0) as step
    where not exists (select from fleet_q.outcomes where outcomes.step_id = taken.step_id offset 0)
  ),
  claim as (
    insert into fleet_q.claims (pod_id, step_ids, attempts)
    select ${want.podId}, array_agg(step_id order by step_id), array_agg(attempt order by step_id)
    from live having count(*) > 0
    returning id
  )`

const takenSteps = (sql: Sql) => sql`
  select /* step.taken */ 'claimed' as kind, claim.id as claim_id, live.step_id, live.attempt, live.lane_id, live.position,
    live.salt, live.created_at, lanes.type, lanes.priority, live.args, live.metadata, live.max_retries,
    live.timeout_ms, live.retry, live.tags, coalesce(live.expires_at <= fleet_q.clock(), false) as expired
  from claim
  cross join live
  cross join lateral (select type, priority from fleet_q.lanes where id = live.lane_id offset 0) as lanes
  union all
  -- Said, because it is no reason to rest: what lies behind them has not been looked at.
  select 'dropped', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null
  where (select count(*) from taken) > (select count(*) from live)`

/**
 * The one statement of a pod's work: settle what ended, take what there are free slots for.
 *
 * The claim walks the lanes of the pod's types, highest priority first and in a circle among equals, and starts in
 * each behind its mark: without marks every layout walks the queue's dead end and falls from tens of thousands to
 * 3 to 5 thousand steps a second within a minute of a pinned xmin horizon (67 to 77 thousand with them).
 *
 * `limit` stands in a MATERIALIZED CTE, never in `IN (SELECT ... LIMIT)`: that form took 501 rows for LIMIT 1 under
 * stale statistics. Rows are deleted by ctid: they are locked, and a ready row is never updated.
 */
export const exchange = (sql: Sql, want: Want, reports: Report[], endedClaims: string[]) => sql<
  (ClaimedStep | RefusedReport | DroppedSteps)[]
>`
  with /* step.exchange */ ${settling(sql, want.podId, reports, endedClaims)},
  -- Looked up by name, not joined: as a loop within a loop, 10,000 marks of 10,000 lanes took 5 s.
  mark as materialized (
    select jsonb_object(${want.markLanes}::text[], ${want.markPositions}::text[]) as of_lane
  ),
  lane as materialized (
    select lanes.id, lanes.priority, ${want.limit}::int as quota,
      coalesce(((select of_lane from mark) ->> lanes.id::text)::bigint, -9223372036854775808) as mark
    from fleet_q.lanes
    where lanes.type = any (${want.types}::text[])
      -- Limited types are claimed by step.claim_limited, one claimer at a time.
      and not exists (select from fleet_q.limits where limits.type = lanes.type)
      and ${isOpen(sql, want.podId)}
    order by lanes.priority desc, lanes.id <= ${want.afterLane}, lanes.id
  ),
  ${taking(sql, want)}
  ${takenSteps(sql)}
  union all
  select refused.kind, refused.claim_id, refused.step_id, null, null, null, null, null, null, null, null, null, null,
    null, null, null, null
  from refused
  order by priority desc nulls last, position`

/** Locks the limits of these types; types that another pod is claiming from just now are left out. */
export const lockLimits = (sql: Sql, types: string[]) => sql<{ type: string }[]>`
  select /* step.lock_limits */ type from fleet_q.limits where type = any (${types}::text[])
  order by type for update skip locked`

/**
 * Claims from types whose limits this transaction has locked; a statement of its own, because only a snapshot that is
 * younger than the lock sees what the pod before has claimed (counted in one statement, limits are exceeded). One
 * lane of each limited whole a time: two lanes that share what is left would each take all of it.
 */
export const claimLimited = (
  sql: Sql,
  want: Pick<Want, 'podId' | 'limit' | 'afterLane'>,
  types: string[],
) => sql<(ClaimedStep | DroppedSteps)[]>`
  with /* step.claim_limited */ busy as materialized (
    select lanes.type, lanes.key, count(*) as steps
    from fleet_q.claims
    cross join unnest(claims.step_ids) as held (step_id)
    cross join lateral (select lane_id from fleet_q.steps where id = held.step_id offset 0) as step
    cross join lateral (select type, key from fleet_q.lanes where id = step.lane_id offset 0) as lanes
    where lanes.type = any (${types}::text[])
      and not exists (select from fleet_q.outcomes where outcomes.step_id = held.step_id offset 0)
      and not exists (
        select from fleet_q.attempts
        where attempts.step_id = held.step_id and attempts.claim_id = claims.id offset 0)
    group by lanes.type, lanes.key
  ),
  open_lane as materialized (
    select lanes.id, lanes.type, lanes.key, lanes.priority, limits.max_running is not null as whole_type,
      least(
        limits.max_running
          - coalesce((select sum(steps) from busy where busy.type = lanes.type), 0),
        limits.max_running_per_key
          - coalesce((select steps from busy where busy.type = lanes.type and busy.key = lanes.key), 0)
      )::int as quota
    from fleet_q.lanes join fleet_q.limits on limits.type = lanes.type
    where lanes.type = any (${types}::text[]) and ${isOpen(sql, want.podId)}
      and exists (select from fleet_q.ready where ready.lane_id = lanes.id offset 0)
  ),
  lane as materialized (
    select id, priority, -9223372036854775808 as mark, quota
    from (
      select distinct on (type, case when not whole_type then key end) *
      from open_lane where quota > 0
      order by type, case when not whole_type then key end, priority desc, id <= ${want.afterLane}, id
    ) as first_of_each
    order by priority desc, id <= ${want.afterLane}, id
  ),
  ${taking(sql, want)}
  ${takenSteps(sql)}
  order by priority desc, position`

/** The settling half alone: for a pod that wants nothing, and inside a handler's own transaction. */
export const settle = (sql: Sql, podId: string, reports: Report[], endedClaims: string[]) => sql<
  RefusedReport[]
>`
  with /* step.settle */ ${settling(sql, podId, reports, endedClaims)}
  select kind, claim_id, step_id from refused`

/** Claims of this pod that it does not know: the answer to an exchange was lost on the way, the commit was not. */
export const findStrayClaims = (sql: Sql, podId: string, knownClaims: string[]) => sql<
  { id: string; step_ids: string[]; attempts: number[] }[]
>`
  select /* step.stray_claims */ id, step_ids, attempts from fleet_q.claims
  where pod_id = ${podId} and id <> all (${knownClaims}::bigint[])`

/** Which of the steps that this pod runs have got an outcome from elsewhere: an operator cancelled them. */
export const findSettledElsewhere = (sql: Sql, stepIds: string[]) => sql<
  { step_id: string; status: string }[]
>`
  select /* step.settled_elsewhere */ step_id, status from fleet_q.outcomes
  where step_id = any (${stepIds}::bigint[])`

/** Moves what is due into its lane. Any pod may; SKIP LOCKED lets two do it at once. */
export const promoteDue = (sql: Sql, limit: number) => sql<{ lane_id: number }[]>`
  with /* step.promote */ due as materialized (
    select step_id from fleet_q.later where due_at <= fleet_q.clock()
    order by due_at limit ${limit} for update skip locked
  ),
  moved as (
    delete from fleet_q.later where step_id = any (array(select step_id from due))
    returning step_id, lane_id, attempt, due_at
  )
  insert into fleet_q.ready (lane_id, step_id, attempt)
  select lane_id, step_id, attempt from moved
  where not exists (select from fleet_q.outcomes where outcomes.step_id = moved.step_id offset 0)
  order by due_at, step_id
  returning lane_id`

/** Milliseconds until the next step is due; null when none waits. */
export const nextDueMs = (sql: Sql) => sql<{ ms: number | null }[]>`
  select /* step.next_due */ extract(epoch from min(due_at) - fleet_q.clock())::float8 * 1000 as ms
  from fleet_q.later`

/** Waits for a settle in flight under this claim: it holds the row FOR KEY SHARE. */
export const lockClaim = (sql: Sql, claimId: string) => sql`
  select /* step.lock_claim */ id from fleet_q.claims where id = ${claimId} for update`

/** By its handler: recovery gives an outcome under the same claim too, when it gives a step up. */
export const wasCompleted = (sql: Sql, claimId: string, stepId: string) => sql<{ step_id: string }[]>`
  select /* step.was_completed */ step_id from fleet_q.outcomes
  where step_id = ${stepId} and claim_id = ${claimId} and status = 'completed'`
