import type { Sql } from '../db/connect.ts'
import type { BulkFilter } from '../step/queue.sql.ts'
import { fits } from '../step/read.sql.ts'

/** Out of `later`, where it sleeps, waits, or is to be looked at. No row: it lies elsewhere. */
export const takeOutOfLater = (sql: Sql, stepId: string) => sql<{ step_id: string; lane_id: number }[]>`
  delete /* execution.take_out_of_later */ from fleet_q.later
  where step_id = ${stepId}
    and not exists (select from fleet_q.outcomes where outcomes.step_id = later.step_id offset 0)
  returning step_id, lane_id`

/** Candidates of a bulk retry of what is parked. No pod holds one: a filter by pod finds none. */
export const findParked = (sql: Sql, f: BulkFilter, after: string, limit: number) => sql<
  { id: string; step_id: string }[]
>`
  select /* execution.parked */ step.id, fleet_q.step_public_id(step.id, step.salt, step.created_at) as step_id
  from (
    select step_id from fleet_q.later where why = 'attention' and step_id > ${after} order by why, step_id
  ) as parked
  cross join lateral (select * from fleet_q.steps where id = parked.step_id offset 0) as step
  cross join lateral (select type, key from fleet_q.lanes where id = step.lane_id offset 0) as lanes
  where ${f.pod}::text is null and ${fits(sql, f)}
  order by parked.step_id limit ${limit}`

/** Those of them that are parked still: one that somebody let go on may sleep by now. */
export const takeParked = (sql: Sql, stepIds: string[]) => sql<{ step_id: string; lane_id: number }[]>`
  delete /* execution.take_parked */ from fleet_q.later
  where step_id = any (${stepIds}::bigint[]) and why = 'attention'
    and not exists (select from fleet_q.outcomes where outcomes.step_id = later.step_id offset 0)
  returning step_id, lane_id`

/** What it got under this name, with their turns; and whether it has undone what it did. */
export const findTurns = (sql: Sql, stepId: string, name: string) => sql<
  { name: string; number: number; turn: number }[]
>`
  select /* execution.turns */ name, number, turn from fleet_q.checkpoints
  where step_id = ${stepId} and turn is not null and kind <> 'failure' and name = ${name}
    or step_id = ${stepId} and kind = 'failure'
  order by number`

/** What a step was submitted with. */
export interface Letter {
  type: string
  priority: number
  key: string
  args: Record<string, unknown>
  metadata: Record<string, unknown> | null
  max_retries: number
  timeout_ms: number | null
  retry: Record<string, unknown> | null
  tags: string[] | null
}

export const findLetter = (sql: Sql, stepId: string) => sql<Letter[]>`
  select /* execution.letter */ lanes.type, lanes.priority, lanes.key, args, metadata, max_retries, timeout_ms, retry, tags
  from fleet_q.steps join fleet_q.lanes on lanes.id = steps.lane_id
  where steps.id = ${stepId}`
