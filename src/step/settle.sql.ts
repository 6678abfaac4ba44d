import { jsonTexts } from '../db/arrays.ts'
import type { Sql } from '../db/connect.ts'

export type AttemptEnd =
  | 'failed'
  | 'timeout'
  | 'pod_died'
  | 'retried'
  | 'snoozed'
  | 'released'
  | 'suspended'
  | 'misfit'

/** How an attempt ended, as the pod that ran it reports it. Arrays of equal length go to the database. */
export interface Report {
  claimId: string
  stepId: string
  attempt: number
  /** Set for the last attempt. */
  outcome: 'completed' | 'failed' | 'cancelled' | 'skipped' | null
  /** Set for an attempt that is followed by another, and for the last one of a step that is given up. */
  ended: AttemptEnd | 'poison' | null
  result: string | null
  error: string | null
  /** On the monotonic clock of this process. It is told when it is sent: an outage in between is no part of the run. */
  startedMs: number
  /** When and as which attempt it comes back. */
  delayMs: number | null
  /** Since when, on the same clock, where that is known: what an outage takes is no part of the delay either. */
  endedMs?: number
  nextAttempt: number | null
  /** Not the clock moves it on, or not the clock alone: an event, another step, an operator. */
  waitsFor?: 'answer' | 'attention'
  /** Another execution may wait for this step. */
  hasParent?: true
  /** Something is to be undone: a cancel may have asked for that since the attempt looked. */
  hasUndos?: true
  /** This or another outcome may stand already: it was handed in before and the answer was lost, or somebody cancelled. */
  mayStand?: true
}

/** An answer that changed nothing: its claim is gone, or the step has its outcome already. */
export interface RefusedReport {
  kind: 'fenced' | 'superseded'
  claim_id: string
  step_id: string
}

/** Positions below zero lie in front of everything that was ever submitted, and keep their order. */
export const FRONT = (2n ** 62n).toString()

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
 *
 * Reports that say "completed", for the first time, are the many. They go a shorter way, without `on conflict`: that
 * writes a second record for each row (17 us of the server for each step became 12.5, 466 bytes of WAL 411). Where a
 * step has been cancelled meanwhile it breaks at the primary key, and the same reports go the long way.
 */
export const settling = (sql: Sql, podId: string, reports: Report[], endedClaims: string[]) =>
  reports.every((report) => report.outcome === 'completed' && !report.mayStand)
    ? sql`${fencing(sql, podId, reports, endedClaims)}, ${completing(sql, podId, reports)}, ${refusing(sql, podId, sql`settled`)}`
    : sql`${fencing(sql, podId, reports, endedClaims)}, ${deciding(sql, podId, reports)}, ${refusing(sql, podId, sql`settled_or_tried`)}`

const fencing = (sql: Sql, podId: string, reports: Report[], endedClaims: string[]) => sql`
  ended_claim as (
    delete from fleet_q.claims where id = any (${endedClaims}::bigint[]) and pod_id + 0 = ${podId}
    returning id
  ),
  standing_claim as materialized (
    select id from fleet_q.claims
    where id = any (${standingClaims(reports, endedClaims)}::bigint[]) and pod_id + 0 = ${podId}
    order by id
    for key share
  ),
  fence as materialized (select id from ended_claim union all select id from standing_claim)`

/** How long ago each attempt began, in microseconds. */
function runTimes(reports: Report[]): number[] {
  const now = performance.now()
  return reports.map((report) => Math.max(0, Math.round((now - report.startedMs) * 1000)))
}

function delays(reports: Report[]): (number | null)[] {
  const now = performance.now()
  return reports.map(({ delayMs, endedMs = now }) => delayMs && Math.max(0, delayMs - (now - endedMs)))
}

function standingClaims(reports: Report[], endedClaims: string[]): string[] {
  const standing = new Set<string>()
  for (const { claimId } of reports) standing.add(claimId)
  for (const claim of endedClaims) standing.delete(claim)
  return [...standing]
}

const completing = (sql: Sql, podId: string, reports: Report[]) => sql`
  report as materialized (
    select claim_id, step_id, attempt, 'completed' as outcome, null::text as ended, result, ran_us
    from unnest(
      ${reports.map((r) => r.claimId)}::bigint[], ${reports.map((r) => r.stepId)}::bigint[],
      ${reports.map((r) => r.attempt)}::smallint[], ${jsonTexts(reports.map((r) => r.result))}::text[],
      ${runTimes(reports)}::bigint[]
    ) as r (claim_id, step_id, attempt, result, ran_us)
  ),
  settled as (
    insert into fleet_q.outcomes (step_id, status, attempt, claim_id, pod_id, started_at, settled_at, result)
    select step_id, 'completed', attempt, claim_id, ${podId},
      fleet_q.clock() - ran_us * interval '1 microsecond', fleet_q.clock(), result::jsonb
    from report where claim_id = any (array(select id from fence))
    -- In key order, as a batch of cancels: two that insert the same keys crosswise would deadlock.
    order by step_id
    returning step_id, claim_id
  )`

const deciding = (sql: Sql, podId: string, reports: Report[]) => sql`
  report as materialized (
    select * from unnest(
      ${reports.map((r) => r.claimId)}::bigint[], ${reports.map((r) => r.stepId)}::bigint[],
      ${reports.map((r) => r.attempt)}::smallint[], ${reports.map((r) => r.outcome)}::text[],
      ${reports.map((r) => r.ended)}::text[], ${jsonTexts(reports.map((r) => r.result))}::text[],
      ${jsonTexts(reports.map((r) => r.error))}::text[], ${runTimes(reports)}::bigint[],
      ${delays(reports)}::float8[], ${reports.map((r) => r.nextAttempt)}::smallint[],
      ${reports.map(laterWhy)}::text[]
    ) as r (claim_id, step_id, attempt, outcome, ended, result, error, ran_us, delay_ms, next_attempt, why)
  ),
  valid as materialized (select report.* from report where claim_id = any (array(select id from fence))),
  settled as (
    insert into fleet_q.outcomes (step_id, status, attempt, claim_id, pod_id, started_at, settled_at, result, error)
    select step_id, outcome::fleet_q.outcome_status, attempt, claim_id, ${podId},
      fleet_q.clock() - ran_us * interval '1 microsecond', fleet_q.clock(), result::jsonb, error::jsonb
    from valid where outcome is not null
      -- Redriven since: a report that is sent twice must not end the step for a second time.
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
      fleet_q.clock() - ran_us * interval '1 microsecond', fleet_q.clock(), error::jsonb
    from valid where outcome is null
      -- Completed under this very claim, by a transaction whose commit was answered to nobody.
      and not exists (
        select from fleet_q.outcomes as o
        where o.step_id = valid.step_id and o.claim_id = valid.claim_id offset 0)
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
      -- and everything else of its batch with it. NaN counts as larger than any number. Null stays null: no time wakes it.
      case when valid.delay_ms is not null
        then fleet_q.clock() + make_interval(secs => least(valid.delay_ms, ${DELAY_MS_MAX}::float8) / 1000) end,
      valid.next_attempt, valid.why::fleet_q.later_why
    from again as valid
    cross join lateral (select lane_id from fleet_q.steps where id = valid.step_id offset 0) as step
    where (valid.delay_ms > 0 or valid.why in ('wait', 'attention'))
      -- Cancelled meanwhile: what no time wakes would lie there for ever.
      and not exists (select from fleet_q.outcomes as o where o.step_id = valid.step_id offset 0)
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
    where coalesce(valid.delay_ms, 0) <= 0 and valid.why not in ('wait', 'attention')
    order by valid.step_id
  ),
  settled_or_tried as materialized (
    select step_id, claim_id from settled union all select step_id, claim_id from tried
  )`

/** Why it lies in `later`, where it does. */
function laterWhy({ ended, waitsFor }: Report): string {
  if (waitsFor) return waitsFor === 'answer' ? 'wait' : 'attention'
  return ended === 'snoozed' ? 'snooze' : ended === 'suspended' ? 'sleep' : 'retry'
}

/** What changed nothing, and why. Not looked for where everything did: that costs a hash of the whole batch. */
const refusing = (sql: Sql, podId: string, handedIn: ReturnType<Sql>) => sql`
  doubtful as materialized (
    select claim_id, step_id, outcome, ended from report
    where (select count(*) from report) > (select count(*) from ${handedIn})
      and (step_id, claim_id) not in (select step_id, claim_id from ${handedIn})
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

/** Ten years. */
const DELAY_MS_MAX = 10 * 365 * 86_400_000

/** The settling half alone: for a pod that wants nothing, and inside a handler's own transaction. */
export const settle = (sql: Sql, podId: string, reports: Report[], endedClaims: string[]) => sql<
  RefusedReport[]
>`
  with /* step.settle */ ${settling(sql, podId, reports, endedClaims)}
  select kind, claim_id, step_id from refused`
