import type { Sql } from '../db/connect.ts'

/** How deep in a lane retention looks for a cancelled step: what is older than any retention lies at its front. */
const LANE_FRONT = 1000

/**
 * Forgets settled steps that are older than `seconds`, lowest keys first: keys grow with time, so the oldest are at
 * the left edge of the primary key and no index on time is paid for by every settle. A window that holds only
 * younger ones (a step that was delayed for a month) is passed by `after`.
 *
 * What is being redriven at this moment is locked, and left; and only what `gone` took is thrown away. A letter that
 * went because its outcome *looked* old, while a redrive put that outcome aside, would be a step lost. The letter is
 * locked before the outcome goes: a cancel that began earlier locks it too, and cannot write a new outcome for a step
 * that is no more.
 */
export const forgetSettled = (sql: Sql, seconds: number, after: string, limit: number) => sql<
  { last: string | null; looked: number; forgotten: number }[]
>`
  with /* step.forget */ span as materialized (
    select step_id, settled_at from fleet_q.outcomes where step_id > ${after} order by step_id limit ${limit}
  ),
  old as materialized (
    select step_id from fleet_q.outcomes
    where step_id = any (array(
      select step_id from span
      where settled_at < fleet_q.clock() - make_interval(secs => ${seconds})
        and step_id not in (select unnest(step_ids) from fleet_q.claims)
        -- An execution that goes on may ask yet how the step ended that it has submitted.
        and not exists (
          select from (select parent_id from fleet_q.steps where id = span.step_id offset 0) as child
          where exists (select from fleet_q.steps as parent where parent.id = child.parent_id offset 0)
            and not exists (select from fleet_q.outcomes where outcomes.step_id = child.parent_id offset 0))))
    order by step_id
    for update skip locked
  ),
  letter as materialized (
    select id from fleet_q.steps where id = any (array(select step_id from old)) order by id for update skip locked
  ),
  gone as (
    delete from fleet_q.outcomes where step_id = any (array(select id from letter))
    returning step_id, status, attempt
  ),
  -- A step that was cancelled before its first attempt may lie in a lane that nobody claims from. What this leaves
  -- behind is dropped by the claim that meets it: it takes no step without a letter.
  never_ran as materialized (
    select gone.step_id, step.lane_id from gone
    cross join lateral (select lane_id from fleet_q.steps where id = gone.step_id offset 0) as step
    where gone.status = 'cancelled' and gone.attempt = 0
  ),
  g0 as (
    delete from fleet_q.ready where ctid = any (array(
      select head.at from (select distinct lane_id from never_ran) as lane
      cross join lateral (
        select ready.ctid as at, ready.step_id from fleet_q.ready where ready.lane_id = lane.lane_id
        order by ready.lane_id, ready.position limit ${LANE_FRONT}
      ) as head
      where (head.step_id in (select step_id from never_ran)) is true))
  ),
  g1 as (delete from fleet_q.steps where id = any (array(select step_id from gone))),
  g2 as (delete from fleet_q.attempts where step_id = any (array(select step_id from gone))),
  g3 as (delete from fleet_q.logs where step_id = any (array(select step_id from gone))),
  g4 as (delete from fleet_q.progress where step_id = any (array(select step_id from gone))),
  g5 as (delete from fleet_q.redrives where step_id = any (array(select step_id from gone))),
  g6 as (delete from fleet_q.unique_keys where step_id = any (array(select step_id from gone))),
  -- A retry that was written while its step was cancelled.
  g7 as (delete from fleet_q.later where step_id = any (array(select step_id from gone))),
  g8 as (delete from fleet_q.checkpoints where step_id = any (array(select step_id from gone))),
  g10 as (delete from fleet_q.execution_names where step_id = any (array(select step_id from gone))),
  g11 as (delete from fleet_q.past_checkpoints where step_id = any (array(select step_id from gone))),
  g12 as (delete from fleet_q.reruns where step_id = any (array(select step_id from gone))),
  g13 as (delete from fleet_q.execution_pauses where step_id = any (array(select step_id from gone))),
  g9 as (delete from fleet_q.events where step_id = any (array(select step_id from gone)))
  select (select max(step_id) from span) as last, (select count(*)::int from span) as looked,
    (select count(*)::int from gone) as forgotten`

/** Keys of submits, finished cycles and terms, and pods that ended: kept as long as outcomes are. */
export const forgetHistory = (sql: Sql, seconds: number, limit: number) => sql`
  with /* step.forget_history */ keys as (
    delete from fleet_q.idempotency_keys where key = any (array(
      select key from fleet_q.idempotency_keys
      where created_at < fleet_q.clock() - make_interval(secs => ${seconds}) order by created_at limit ${limit}))
  ),
  requests as (
    delete from fleet_q.recovery_requests where id = any (array(
      select id from fleet_q.recovery_requests
      where asked_at < fleet_q.clock() - make_interval(secs => ${seconds}) order by id limit ${limit}))
  ),
  cycles as (
    delete from fleet_q.recovery_cycles where id = any (array(
      select id from fleet_q.recovery_cycles
      where finished_at < fleet_q.clock() - make_interval(secs => ${seconds}) order by id limit ${limit}))
  ),
  terms as (
    delete from fleet_q.leader_terms where term = any (array(
      select term from fleet_q.leader_terms
      where ended_at < fleet_q.clock() - make_interval(secs => ${seconds}) order by term limit ${limit}))
  )
  delete from fleet_q.pods where id = any (array(
    select id from fleet_q.pods
    where ended_at < fleet_q.clock() - make_interval(secs => ${seconds}::float8 * 2)
      and not exists (select from fleet_q.claims where claims.pod_id = pods.id offset 0)
      and not exists (select from fleet_q.leader_terms where leader_terms.pod_id = pods.id offset 0)
      and not exists (select from fleet_q.recovery_cycles where recovery_cycles.pod_id = pods.id offset 0)
    order by id limit ${limit}))`
