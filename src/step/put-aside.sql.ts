import type { Sql } from '../db/connect.ts'

/** A checkpoint that was put aside. */
export interface AsideRow {
  step_id: string
  name: string
  number: number
  kind: string
  child_id: string | null
  /** Ids of steps that were submitted at once. */
  children: string[] | null
}

/** What it got from this turn on, and what it asked for after that. */
export const putCheckpointsAside = (sql: Sql, stepId: string, fromTurn: number) =>
  puttingAside(
    sql,
    sql`step_id = ${stepId} and (turn >= ${fromTurn} or turn is null and after_turn >= ${fromTurn})`,
  )

/**
 * What executions remember of their failure, before they are tried again: they begin at what failed. One that has undone
 * what it did begins anew.
 */
export const putFailuresAside = (sql: Sql, stepIds: string[]) =>
  puttingAside(
    sql,
    sql`step_id = any (${stepIds}::bigint[])
      and (
        exists (
          select from fleet_q.checkpoints as undone
          where undone.step_id = standing.step_id and undone.name = '$failure' and undone.number = 1 offset 0)
        or error is not null and not exists (
          select from fleet_q.checkpoints as following
          where following.step_id = standing.step_id and following.after_turn >= standing.turn offset 0))`,
  )

/**
 * Kept for people, and asked for again. Events that were taken lie there again, for what was sent stays sent.
 */
const puttingAside = (sql: Sql, which: ReturnType<Sql>) => sql<AsideRow[]>`
  with /* step.put_checkpoints_aside */ aside as (
    delete from fleet_q.checkpoints as standing where ${which}
    returning *
  ),
  kept as (
    insert into fleet_q.past_checkpoints (
      step_id, name, number, kind, turn, after_turn, at, due_at, failures, child_id, result, error)
    select step_id, name, number, kind, turn, after_turn, at, due_at, failures, child_id, result, error
    from aside order by step_id, name, number
  ),
  lying as (
    update fleet_q.events set taken_by = null
    from aside
    where aside.kind = 'event' and events.step_id = aside.step_id and events.name = aside.name
      and events.taken_by = aside.number
  )
  select step_id, name, number, kind, child_id, case when kind = 'children' then result end as children from aside`

/** Steps are submitted under these keys anew. */
export const freeKeys = (sql: Sql, keys: string[]) => sql`
  delete /* step.free_keys */ from fleet_q.idempotency_keys where key = any (${keys}::text[])`
