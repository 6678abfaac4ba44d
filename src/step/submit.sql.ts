import { jsonTexts } from '../db/arrays.ts'
import type { Sql } from '../db/connect.ts'

/** A step as it is written: validated, its lane known. */
export interface NewStep {
  laneId: number
  salt: string
  maxRetries: number
  timeoutMs: number | null
  runAt: string | null
  delayMs: number | null
  expiresAt: string | null
  args: string
  metadata: string | null
  retry: string | null
  tags: string | null
  /** The key of the execution that submits it. */
  parentId: string | null
  detached: boolean
}

/** The lanes of these (type, priority, key), made where they are new. */
export const findLanes = (sql: Sql, lanes: { type: string; priority: number; key: string }[]) => sql<
  { id: number; type: string; priority: number; key: string }[]
>`
  select /* step.lanes */ fleet_q.lane_of(type, priority, key) as id, type, priority, key
  from unnest(
    ${lanes.map((l) => l.type)}::text[], ${lanes.map((l) => l.priority)}::int[], ${lanes.map((l) => l.key)}::text[]
  ) as l (type, priority, key)`

/** In the order of the steps that were given; the time of the first is that of all. */
export interface InsertedStep {
  id: string
  created_at: string | null
  /** Milliseconds until it is due; null where it may start at once. */
  due_ms: number | null
}

/**
 * Any number of steps in one statement: the letter, and where it lies. Keys are drawn in `fresh`, so that both
 * inserts agree on them; args are written once (designs that carry them along lose everything at 2 kB).
 */
export const insertSteps = (sql: Sql, steps: NewStep[]) => sql<InsertedStep[]>`
  with /* step.submit */ fresh as materialized (
    select nextval('fleet_q.step_ids') as id, s.*,
      coalesce(run_at, fleet_q.clock() + make_interval(secs => delay_ms / 1000)) as due_at
    from unnest(
      ${steps.map((s) => s.laneId)}::int[], ${steps.map((s) => s.salt)}::bigint[],
      ${steps.map((s) => s.maxRetries)}::smallint[], ${steps.map((s) => s.timeoutMs)}::int[],
      ${steps.map((s) => s.runAt)}::timestamptz[], ${steps.map((s) => s.delayMs)}::float8[],
      ${steps.map((s) => s.expiresAt)}::timestamptz[], ${jsonTexts(steps.map((s) => s.args))}::text[],
      ${jsonTexts(steps.map((s) => s.metadata))}::text[], ${jsonTexts(steps.map((s) => s.retry))}::text[], ${jsonTexts(steps.map((s) => s.tags))}::text[],
      ${steps.map((s) => s.parentId)}::bigint[], ${steps.map((s) => String(s.detached))}::text[]::bool[]
    ) with ordinality as s (
      lane_id, salt, max_retries, timeout_ms, run_at, delay_ms, expires_at, args, metadata, retry, tags, parent_id, detached,
      ordinal
    )
    order by ordinal
  ),
  written as (
    insert into fleet_q.steps (
      id, salt, lane_id, max_retries, timeout_ms, run_at, expires_at, args, metadata, retry, tags, parent_id,
      detached
    )
    select id, salt, lane_id, max_retries, timeout_ms, due_at, expires_at, args::jsonb, metadata::jsonb, retry::jsonb,
      case when tags is not null then array(select jsonb_array_elements_text(tags::jsonb)) end, parent_id,
      detached
    from fresh order by id
    returning id, created_at, run_at
  ),
  now_ready as (
    insert into fleet_q.ready (lane_id, step_id, attempt, fresh)
    select lane_id, id, 1, true from fresh where due_at is null or due_at <= fleet_q.clock() order by id
  ),
  not_yet as (
    insert into fleet_q.later (step_id, lane_id, due_at, attempt, why)
    select id, lane_id, due_at, 1, 'delay' from fresh where due_at > fleet_q.clock() order by id
  )
  -- The time is the same for all: said once, for its words cost more than the rest of a row.
  select id, case when id = (select min(id) from fresh) then created_at::text end as created_at,
    case when run_at is not null then extract(epoch from run_at - fleet_q.clock())::float8 * 1000 end as due_ms
  from written order by id`

/** Takes a key for this body; no row when it is taken. */
export const takeIdempotencyKey = (sql: Sql, key: string, bodyHash: Buffer) => sql<{ key: string }[]>`
  insert /* step.idempotency_take */ into fleet_q.idempotency_keys (key, body_hash, step_ids)
  values (${key}, ${bodyHash}, '{}')
  on conflict (key) do nothing
  returning key`

export const nameStepsOfKey = (sql: Sql, key: string, stepIds: string[]) => sql`
  update /* step.idempotency_name */ fleet_q.idempotency_keys set step_ids = ${stepIds}::bigint[] where key = ${key}`

export const findIdempotencyKey = (sql: Sql, key: string) => sql<{ body_hash: Buffer; step_ids: string[] }[]>`
  select /* step.idempotency_find */ body_hash, step_ids from fleet_q.idempotency_keys where key = ${key}`

/** Takes a unique key, or locks the row that has it; says which step has it and whether that step still lives. */
export const takeUniqueKey = (sql: Sql, key: string) => sql<{ step_id: string; live: boolean }[]>`
  with /* step.unique_take */ held as (
    insert into fleet_q.unique_keys as held (key, step_id) values (${key}, 0)
    on conflict (key) do update set key = excluded.key
    returning step_id
  )
  select held.step_id, held.step_id <> 0
    and not exists (select from fleet_q.outcomes where outcomes.step_id = held.step_id) as live
  from held`

export const giveUniqueKey = (sql: Sql, key: string, stepId: string) => sql`
  update /* step.unique_give */ fleet_q.unique_keys set step_id = ${stepId} where key = ${key}`

/** Takes an id for an execution that is being started; no row where it is taken. */
export const takeExecutionName = (sql: Sql, name: string, stepId: string) => sql<{ name: string }[]>`
  insert /* execution.take_name */ into fleet_q.execution_names (name, step_id) values (${name}, ${stepId})
  on conflict (name) do nothing
  returning name`

export const writeRerun = (sql: Sql, stepId: string, ofStepId: string) => sql`
  insert /* execution.rerun */ into fleet_q.reruns (step_id, of_step_id) values (${stepId}, ${ofStepId})`
