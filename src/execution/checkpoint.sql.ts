import { jsonTexts } from '../db/arrays.ts'
import type { Sql } from '../db/connect.ts'

export type CheckpointKind =
  | 'run'
  | 'sleep'
  | 'event'
  | 'child'
  | 'result'
  | 'children'
  | 'results'
  | 'now'
  | 'random'
  | 'version'
  | 'undo'
  | 'failure'

export interface CheckpointError {
  class: string
  message: string
}

export interface CheckpointRow {
  step_id: string
  name: string
  number: number
  kind: CheckpointKind
  /** Null while it is open. */
  turn: number | null
  /** Until it is due; null where it is due at no time. */
  due_ms: number | null
  arrived: boolean
  failures: number
  child_id: string | null
  result: unknown
  /** There is no result, not even null. */
  empty: boolean
  stored_bytes: number
  error: CheckpointError | null
}

/** What these executions remember, for the pod that holds them. */
export const findCheckpoints = (sql: Sql, stepIds: string[]) => sql<CheckpointRow[]>`
  select /* execution.remember */ checkpoints.step_id, name, number, kind, turn,
    extract(epoch from due_at - fleet_q.clock())::float8 * 1000 as due_ms, arrived_at is not null as arrived,
    failures, child_id, result, result is null as empty, coalesce(pg_column_size(result), 0) as stored_bytes, error
  from unnest(${stepIds}::bigint[]) as wanted (step_id)
  cross join lateral (select * from fleet_q.checkpoints where step_id = wanted.step_id offset 0) as checkpoints`

/** What has come for what these executions wait for. */
export const findArrived = (sql: Sql, stepIds: string[]) => sql<CheckpointRow[]>`
  select /* execution.arrived */ checkpoints.step_id, name, number, kind, turn, null::float8 as due_ms, true as arrived,
    failures, child_id, result, result is null as empty, 0 as stored_bytes, error
  from unnest(${stepIds}::bigint[]) as wanted (step_id)
  cross join lateral (
    select * from fleet_q.checkpoints
    where step_id = wanted.step_id and turn is null and arrived_at is not null offset 0
  ) as checkpoints`

/** One checkpoint as it is written: with its turn when it is done, open without. */
export interface NewCheckpoint {
  claimId: string
  stepId: string
  name: string
  number: number
  kind: CheckpointKind
  turn: number | null
  after: number
  delayMs: number | null
  dueAt: string | null
  failures: number
  childId: string | null
  result: string | null
  error: string | null
  /** It stands there open, or may stand there: it was written before and the answer was lost. */
  mayStand: boolean
}

type Place = Pick<NewCheckpoint, 'claimId' | 'stepId' | 'name' | 'number' | 'kind' | 'after' | 'mayStand'>

/** What is not said of it is not so. */
export const newCheckpoint = (fields: Place & Partial<NewCheckpoint>): NewCheckpoint => ({
  turn: null,
  delayMs: null,
  dueAt: null,
  failures: 0,
  childId: null,
  result: null,
  error: null,
  ...fields,
})

export interface WrittenCheckpoint {
  step_id: string
  name: string
  number: number
  due_ms: number | null
  at: Date
}

/**
 * Checkpoints of all executions of a pod in one statement, under the fence of their claims: release and recovery delete
 * those rows, so what a dead pod still writes is written nowhere. What has its turn is never changed; a row that is not
 * answered was not written. New ones, the many, go without `on conflict`, which writes a second record for each.
 */
export const writeCheckpoints = (sql: Sql, podId: string, rows: NewCheckpoint[]) => sql<WrittenCheckpoint[]>`
  with /* execution.write */ fence as materialized (
    select id from fleet_q.claims
    where id = any (${[...new Set(rows.map((row) => row.claimId))]}::bigint[]) and pod_id + 0 = ${podId}
    order by id
    for key share
  )
  insert into fleet_q.checkpoints as standing (
    step_id, name, number, kind, turn, after_turn, claim_id, due_at, failures, child_id, result, error
  )
  select step_id, name, number, kind::fleet_q.checkpoint_kind, turn, after_turn, claim_id,
    coalesce(due_at, fleet_q.clock() + make_interval(secs => delay_ms / 1000)), failures, child_id,
    case kind when 'now' then to_jsonb(fleet_q.clock()) else result::jsonb end, error::jsonb
  from unnest(
    ${rows.map((r) => r.claimId)}::bigint[], ${rows.map((r) => r.stepId)}::bigint[],
    ${rows.map((r) => r.name)}::text[], ${rows.map((r) => r.number)}::int[],
    ${rows.map((r) => r.kind)}::text[], ${rows.map((r) => r.turn)}::int[], ${rows.map((r) => r.after)}::int[],
    ${rows.map((r) => r.delayMs)}::float8[], ${rows.map((r) => r.dueAt)}::timestamptz[],
    ${rows.map((r) => r.failures)}::smallint[], ${rows.map((r) => r.childId)}::bigint[],
    ${jsonTexts(rows.map((r) => r.result))}::text[], ${jsonTexts(rows.map((r) => r.error))}::text[]
  ) as r (
    claim_id, step_id, name, number, kind, turn, after_turn, delay_ms, due_at, failures, child_id, result, error
  )
  where claim_id = any (array(select id from fence))
    -- It was cancelled, and nobody would undo it.
    and (kind <> 'undo' or not exists (select from fleet_q.outcomes where outcomes.step_id = r.step_id offset 0))
    -- Its attempt is handed in, and the claim stands for others: a body that did not listen is still at it.
    and not exists (
      select from fleet_q.attempts where attempts.step_id = r.step_id and attempts.claim_id = r.claim_id offset 0)
  order by step_id, name, number
  ${rows.some((row) => row.mayStand) ? overOpen(sql) : sql``}
  returning step_id, name, number, extract(epoch from due_at - fleet_q.clock())::float8 * 1000 as due_ms, at`

/**
 * An open one gets its turn, or its next try; one that this claim has written says so again, and stays as it is. A wait
 * that got its event at the last moment is not told that none came, and what was cancelled has not failed.
 */
const overOpen = (sql: Sql) => sql`
  on conflict (step_id, name, number) do update set
    turn = excluded.turn, claim_id = excluded.claim_id, failures = excluded.failures, child_id = excluded.child_id,
    at = case when standing.turn is null then excluded.at else standing.at end,
    due_at = coalesce(excluded.due_at, standing.due_at),
    result = case
      when standing.turn is not null then standing.result
      -- While it is open, the list of those that it waits for.
      when standing.kind = 'results' then excluded.result
      else coalesce(excluded.result, standing.result) end,
    error = case standing.kind when 'failure' then coalesce(standing.error, excluded.error) else excluded.error end
  where standing.kind = excluded.kind
    and (standing.turn is null or (standing.claim_id = excluded.claim_id and standing.turn = excluded.turn))
    and (standing.kind <> 'event' or standing.arrived_at is null or excluded.error is null)`

export type FailedPlace = Pick<NewCheckpoint, 'stepId' | 'claimId' | 'name' | 'number'>

/**
 * A failure that its handler did not catch is forgotten before the next attempt, which then begins at it. Not where
 * something was asked for after it: that may follow from it. And only while its attempt stands: what another has written
 * there since is not its to forget.
 */
export const forgetFailure = (sql: Sql, { stepId, claimId, name, number }: FailedPlace) => sql<
  { name: string }[]
>`
  delete /* execution.forget_failure */ from fleet_q.checkpoints as failure
  where step_id = ${stepId} and name = ${name} and number = ${number} and error is not null
    and not exists (
      select from fleet_q.checkpoints as later
      where later.step_id = failure.step_id and later.after_turn >= failure.turn)
    and exists (select from fleet_q.claims where id = ${claimId})
    and not exists (
      select from fleet_q.attempts where attempts.step_id = ${stepId} and attempts.claim_id = ${claimId} offset 0)
  returning name`
