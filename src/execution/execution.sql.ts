import type { Sql } from '../db/connect.ts'
import type { CheckpointKind } from './checkpoint.sql.ts'
import type { StepKey } from '../step/step.ts'

/** What finds its step: by the id that its client chose, or by that of the step. */
export const findExecutionKey = (sql: Sql, executionId: string) => sql<StepKey[]>`
  select /* execution.key */ id, salt from fleet_q.steps where id = fleet_q.execution_key(${executionId})`

/** The step of an execution whose id its client chose. */
export const findNamed = (sql: Sql, name: string) => sql<{ step_id: string }[]>`
  select /* execution.named */ fleet_q.step_public_id(step.id, step.salt, step.created_at) as step_id
  from fleet_q.execution_names as named
  cross join lateral (select * from fleet_q.steps where id = named.step_id offset 0) as step
  where named.name = ${name}`

export interface Life {
  step_id: string
  /** As its client calls it. */
  name: string | null
  first_start: Date | null
  /** Whose input it was started with. */
  rerun_of: string | null
  /** Why it is parked until somebody looks at it. */
  attention: string | null
  waiting_for: string[]
}

/** Of many, in a list, so many each. */
const WAITS_SHOWN_MAX = 20

export const findLives = (sql: Sql, stepIds: string[]) => sql<Life[]>`
  select /* execution.lives */ wanted.step_id,
    (select name from fleet_q.execution_names as named where named.step_id = wanted.step_id offset 0) as name,
    (
      select fleet_q.execution_id_of(of_step_id) from fleet_q.reruns where reruns.step_id = wanted.step_id offset 0
    ) as rerun_of,
    (select min(started_at) from fleet_q.attempts where attempts.step_id = wanted.step_id offset 0) as first_start,
    (
      select coalesce((
          select error ->> 'message' from fleet_q.attempts
          where attempts.step_id = wanted.step_id order by claim_id desc limit 1), '')
      from fleet_q.later where later.step_id = wanted.step_id and later.why = 'attention' offset 0
    ) as attention,
    array(
      select case when open.kind = 'result' and open.child_id is not null then (
          select fleet_q.step_public_id(id, salt, created_at) from fleet_q.steps where steps.id = open.child_id offset 0)
        else open.name end
      from (
        select name, kind, child_id, after_turn from fleet_q.checkpoints
        where checkpoints.step_id = wanted.step_id and turn is null and kind <> 'failure' offset 0) as open
      order by after_turn desc, name limit ${WAITS_SHOWN_MAX}) as waiting_for
  from unnest(${stepIds}::bigint[]) as wanted (step_id)`

export interface ShownCheckpoint {
  name: string
  number: number
  kind: CheckpointKind
  turn: number | null
  failures: number
  at: Date
  due_at: Date | null
  child: string | null
  result: unknown
  error: { class: string; message: string } | null
}

/** In the order in which the handler got them; what is open comes last. */
export const showCheckpoints = (sql: Sql, stepId: string, limit: number) => sql<ShownCheckpoint[]>`
  select /* execution.checkpoints */ latest.name, latest.number, latest.kind, latest.turn, latest.failures, latest.at,
    latest.due_at, latest.result, latest.error,
    (
      select fleet_q.step_public_id(id, salt, created_at) from fleet_q.steps where steps.id = latest.child_id offset 0
    ) as child
  from (
    select * from fleet_q.checkpoints where step_id = ${stepId}
    order by turn desc nulls first, after_turn desc limit ${limit}
  ) as latest
  order by turn nulls last, after_turn, name, number`

/** What was put aside, the latest first; within one time in the order in which the handler got it. */
export const showPastCheckpoints = (sql: Sql, stepId: string, limit: number) => sql<
  (ShownCheckpoint & { put_aside_at: Date })[]
>`
  select /* execution.past */ past.put_aside_at, past.name, past.number, past.kind, past.turn, past.failures, past.at,
    past.due_at, past.result, past.error,
    (
      select fleet_q.step_public_id(id, salt, created_at) from fleet_q.steps where steps.id = past.child_id offset 0
    ) as child
  from fleet_q.past_checkpoints as past
  where past.step_id = ${stepId}
  order by past.put_aside_at desc, past.turn nulls last, past.after_turn, past.name, past.number limit ${limit}`

export const findEvents = (sql: Sql, stepId: string, limit: number) => sql<
  { name: string; payload: unknown; sent_at: Date; taken_by: number | null }[]
>`
  select /* execution.events */ name, payload, sent_at, taken_by from fleet_q.events
  where step_id = ${stepId} order by id desc limit ${limit}`

export const findReruns = (sql: Sql, stepId: string) => sql<{ execution_id: string }[]>`
  select /* execution.reruns */ fleet_q.execution_id_of(step_id) as execution_id
  from fleet_q.reruns where of_step_id = ${stepId}
  order by step_id limit 100`

export const sendEvent = (sql: Sql, stepId: string, name: string, payload: string) => sql<
  { delivered: boolean }[]
>`
  select /* execution.send_event */ fleet_q.send_event_to(${stepId}, ${name}, ${payload}::text::jsonb) as delivered`

/** Executions that hold no slot, by type and why. */
export const countHeld = (sql: Sql, max: number) => sql<{ type: string; why: string; executions: number }[]>`
  select /* execution.count_held */ lanes.type, held.why, count(*)::float8 as executions
  from (
    select lane_id, why::text as why from fleet_q.later
    where why > 'spread' limit ${max}
  ) as held
  cross join lateral (select type from fleet_q.lanes where id = held.lane_id offset 0) as lanes
  group by lanes.type, held.why`

/** Executions that are under way though no pod holds them: asleep, or to be started again. */
export const countAsleep = (sql: Sql, max: number) => sql<{ asleep: number }[]>`
  select /* execution.count_asleep */ count(*)::float8 as asleep
  from (select 1 from fleet_q.later where why > 'spread' and why::text <> 'pause' limit ${max}) as l`

/** Now, as the database has it. */
export const readClock = (sql: Sql) =>
  sql<{ now: Date }[]>`select /* execution.clock */ fleet_q.clock() as now`

/** What was sent, and was not what a wait could use. */
export const dropEvents = (sql: Sql, stepId: string, names: string[]) => sql`
  delete /* execution.drop_events */ from fleet_q.events
  where step_id = ${stepId} and name = any (${names}::text[]) and taken_by is null`
