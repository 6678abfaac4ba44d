import type { Sql } from '../db/connect.ts'

export interface ExecutionPause {
  /** An id, or a pattern. */
  execution: string
  paused_at: Date
  until: Date | null
  reason: string | null
}

export const addExecutionPause = (
  sql: Sql,
  pause: { execution: string; stepId: string | null; until: string | null; reason: string | null },
) => sql<ExecutionPause[]>`
  insert /* execution.pause */ into fleet_q.execution_pauses as pause (execution, step_id, until, reason)
  values (${pause.execution}, ${pause.stepId}, ${pause.until}, ${pause.reason})
  on conflict (execution) do update
    set until = excluded.until, reason = excluded.reason, paused_at = fleet_q.clock()
  returning execution, paused_at, until, reason`

/** It holds nothing from now on. The row stays until what it held has gone on. */
export const endExecutionPause = (sql: Sql, execution: string) => sql<{ execution: string }[]>`
  update /* execution.end_pause */ fleet_q.execution_pauses set until = fleet_q.clock()
  where execution = ${execution} and (until is null or until > fleet_q.clock())
  returning execution`

export const findEndedPauses = (sql: Sql) => sql<{ execution: string }[]>`
  select /* execution.ended_pauses */ execution from fleet_q.execution_pauses where until <= fleet_q.clock() limit 1000`

/** What these pauses held goes on, where no other holds it. `forget`: no claim can put anything off for them any more. */
export const goOnAfterPauses = (sql: Sql, executions: string[], forget: boolean) => sql<
  { step_id: string }[]
>`
  with /* execution.go_on */ forgotten as (
    delete from fleet_q.execution_pauses
    where execution = any (${executions}::text[]) and until <= fleet_q.clock() and ${forget}
  ),
  back as (
    delete from fleet_q.later
    where why > 'spread' and why::text = 'pause' and not exists (select from fleet_q.pause_of(later.step_id))
    returning step_id, lane_id, attempt
  )
  insert into fleet_q.ready (lane_id, step_id, attempt)
  select lane_id, step_id, attempt from back
  where not exists (select from fleet_q.outcomes where outcomes.step_id = back.step_id offset 0)
  order by step_id
  returning step_id`

export const listExecutionPauses = (sql: Sql) => sql<ExecutionPause[]>`
  select /* execution.pauses */ execution, paused_at, until, reason from fleet_q.execution_pauses
  where until is null or until > fleet_q.clock()
  order by paused_at, execution limit 1000`
