import type { Sql } from '../db/connect.ts'

/** Moves what is due into its lane. Any pod may; SKIP LOCKED lets two do it at once. */
export const promoteDue = (sql: Sql, limit: number) => sql<{ lane_id: number }[]>`
  with /* step.promote */ due as materialized (
    select step_id from fleet_q.later where due_at <= fleet_q.clock()
    order by due_at limit ${limit} for update skip locked
  ),
  moved as (
    delete from fleet_q.later where step_id = any (array(select step_id from due))
    returning step_id, lane_id, attempt, due_at, why
  )
  insert into fleet_q.ready (lane_id, step_id, attempt, fresh)
  select lane_id, step_id, attempt, why = 'delay' from moved
  where not exists (select from fleet_q.outcomes where outcomes.step_id = moved.step_id offset 0)
  order by due_at, step_id
  returning lane_id`

/** Milliseconds until the next step is due; null when none waits. */
export const nextDueMs = (sql: Sql) => sql<{ ms: number | null }[]>`
  select /* step.next_due */ extract(epoch from min(due_at) - fleet_q.clock())::float8 * 1000 as ms
  from fleet_q.later`
