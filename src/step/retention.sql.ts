import type { Sql } from '../db/connect.ts'

/**
 * Forgets settled steps that are older than `seconds`, lowest keys first: keys grow with time, so the oldest are at
 * the left edge of the primary key and no index on time is paid for by every settle. A window that holds only
 * younger ones (a step that was delayed for a month) is passed by `after`.
 */
export const forgetSettled = (sql: Sql, seconds: number, after: string, limit: number) => sql<
  { last: string | null; looked: number; forgotten: number }[]
>`
  with /* step.forget */ span as materialized (
    select step_id, status, settled_at from fleet_q.outcomes where step_id > ${after} order by step_id limit ${limit}
  ),
  old as materialized (
    select span.step_id, span.status from span
    where settled_at < fleet_q.clock() - make_interval(secs => ${seconds})
      and not exists (select from fleet_q.claims where claims.step_ids @> array[span.step_id])
  ),
  gone as (delete from fleet_q.outcomes where step_id in (select step_id from old) returning step_id),
  -- A cancelled step of a lane that nobody claims from still lies in it.
  never_ran as materialized (
    select steps.id, steps.lane_id from old join fleet_q.steps on steps.id = old.step_id where old.status <> 'completed'
  ),
  g0 as (
    delete from fleet_q.ready
    where lane_id = any (array(select lane_id from never_ran)) and step_id = any (array(select id from never_ran))
  ),
  g1 as (delete from fleet_q.steps where id in (select step_id from old)),
  g2 as (delete from fleet_q.attempts where step_id in (select step_id from old)),
  g3 as (delete from fleet_q.logs where step_id in (select step_id from old)),
  g4 as (delete from fleet_q.progress where step_id in (select step_id from old)),
  g5 as (delete from fleet_q.redrives where step_id in (select step_id from old)),
  g6 as (delete from fleet_q.unique_keys where step_id in (select step_id from old))
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
    delete from fleet_q.recovery_requests where asked_at < fleet_q.clock() - make_interval(secs => ${seconds})
  ),
  cycles as (
    delete from fleet_q.recovery_cycles
    where finished_at < fleet_q.clock() - make_interval(secs => ${seconds})
  ),
  terms as (
    delete from fleet_q.leader_terms where ended_at < fleet_q.clock() - make_interval(secs => ${seconds})
  )
  delete from fleet_q.pods
  where ended_at < fleet_q.clock() - make_interval(secs => ${seconds} * 2)
    and not exists (select from fleet_q.claims where claims.pod_id = pods.id)
    and not exists (select from fleet_q.leader_terms where leader_terms.pod_id = pods.id)
    and not exists (select from fleet_q.recovery_cycles where recovery_cycles.pod_id = pods.id)`
