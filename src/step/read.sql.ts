import type { Sql } from '../db/connect.ts'
import type { StepKey } from './step.ts'

export interface StepRow {
  id: string
  step_id: string
  type: string
  priority: number
  lane_id: number
  lane_key: string
  args: Record<string, unknown>
  metadata: Record<string, unknown> | null
  tags: string[] | null
  max_retries: number
  created_at: Date
  run_at: Date | null
  expires_at: Date | null
  outcome: 'completed' | 'failed' | 'cancelled' | 'skipped' | null
  outcome_attempt: number | null
  result: unknown
  error: Record<string, unknown> | null
  outcome_started_at: Date | null
  settled_at: Date | null
  due_at: Date | null
  later_why: string | null
  later_attempt: number | null
  claim_id: string | null
  claim_attempt: number | null
  taken_at: Date | null
  pod: string | null
}

/** Everything about one step, joined from wherever it lies. */
const stepColumns = (sql: Sql) => sql`
  step.id, fleet_q.step_public_id(step.id, step.salt, step.created_at) as step_id, lanes.type, lanes.priority,
  step.lane_id, lanes.key as lane_key, step.args, step.metadata, step.tags, step.max_retries, step.created_at,
  step.run_at, step.expires_at, outcome.status as outcome, outcome.attempt as outcome_attempt, outcome.result,
  outcome.error, outcome.started_at as outcome_started_at, outcome.settled_at, later.due_at, later.why as later_why,
  later.attempt as later_attempt, claim.id as claim_id, claim.attempt as claim_attempt, claim.taken_at,
  pods.public_id as pod`

export const findStep = (sql: Sql, key: StepKey) => sql<StepRow[]>`
  select /* step.find */ ${stepColumns(sql)}
  from fleet_q.steps as step
  join fleet_q.lanes on lanes.id = step.lane_id
  left join fleet_q.outcomes as outcome on outcome.step_id = step.id
  left join fleet_q.later on later.step_id = step.id
  left join lateral (
    select claims.id, claims.pod_id, claims.taken_at,
      claims.attempts[array_position(claims.step_ids, step.id)] as attempt
    from fleet_q.claims
    -- No index finds a claim by its step: a look at all claims, spared where the outcome says whose it was.
    where (outcome.step_id is null or outcome.claim_id is null) and claims.step_ids @> array[step.id]
      and not exists (
        select from fleet_q.attempts
        where attempts.step_id = step.id and attempts.claim_id = claims.id offset 0)
    limit 1
  ) as claim on true
  left join fleet_q.pods on pods.id = coalesce(outcome.pod_id, claim.pod_id)
  where step.id = ${key.id} and step.salt = ${key.salt}`

/** Public ids of keys, in the order of the keys. */
export const findStepIds = (sql: Sql, ids: string[]) => sql<{ id: string; step_id: string }[]>`
  select /* step.ids */ step.id, fleet_q.step_public_id(step.id, step.salt, step.created_at) as step_id
  from unnest(${ids}::bigint[]) with ordinality as wanted (id, place)
  cross join lateral (select id, salt, created_at from fleet_q.steps where id = wanted.id offset 0) as step
  order by place`

export interface AttemptRow {
  attempt: number
  ended: string
  pod: string | null
  started_at: Date
  ended_at: Date
  error: Record<string, unknown> | null
}

export const findAttempts = (sql: Sql, id: string, limit: number) => sql<AttemptRow[]>`
  select /* step.attempts */ attempts.attempt, attempts.ended, pods.public_id as pod, attempts.started_at,
    attempts.ended_at, attempts.error
  from fleet_q.attempts left join fleet_q.pods on pods.id = attempts.pod_id
  where attempts.step_id = ${id}
  order by attempts.claim_id desc limit ${limit}`

export const findProgress = (sql: Sql, id: string) => sql<
  { percent: number; message: string | null; at: Date }[]
>`
  select /* step.progress */ percent, message, at from fleet_q.progress where step_id = ${id}`

export const findLogs = (sql: Sql, id: string, attempt: number | null, after: string, limit: number) => sql<
  { attempt: number; at: Date; level: string; message: string; data: unknown }[]
>`
  select /* step.logs */ attempt, at, level, message, data
  from fleet_q.logs
  where step_id = ${id} and (${attempt}::smallint is null or attempt = ${attempt}::smallint)
  order by claim_id, line offset ${after}::bigint limit ${limit}`

/**
 * How many steps are taken before this one: those ahead in its lane, and those in lanes of higher priority. Counts
 * stop at `max`: nobody needs to know whether it is 400,000 or 400,001.
 */
export const findPosition = (
  sql: Sql,
  step: { id: string; laneId: number; priority: number },
  max: number,
) => sql<{ ahead: number | null; higher: number }[]>`
  with /* step.position */ head as materialized (
    select step_id, row_number() over (order by position) - 1 as ahead
    from (
      select step_id, position from fleet_q.ready where lane_id = ${step.laneId}
      order by lane_id, position limit ${max}
    ) as lane_head
  )
  select
    (select ahead::int from head where step_id = ${step.id} limit 1) as ahead,
    (
      select count(*)::int from (
        select 1 from fleet_q.lanes
        cross join lateral (select 1 from fleet_q.ready where lane_id = lanes.id limit ${max}) as waiting
        where lanes.priority > ${step.priority} limit ${max}
      ) as higher
    ) as higher`

export interface ListFilter {
  status: string | null
  type: string | null
  tag: string | null
  pod: string | null
  key: string | null
  olderThanSeconds: number | null
  newerThanSeconds: number | null
  /** In the words of the executions door: what sleeps or waits there is running. */
  executionStatus?: string | null
  /** Only what is parked until somebody looks at it. */
  attention?: boolean
}

type Named = Pick<ListFilter, 'type' | 'key' | 'tag' | 'olderThanSeconds' | 'newerThanSeconds'>

/** What all lists and bulk verbs mean by a filter of `step` and its `lanes`; an absent field does not filter. */
export const fits = (sql: Sql, f: Named) => sql`
  (${f.type}::text is null or lanes.type = ${f.type})
  and (${f.key}::text is null or lanes.key = ${f.key})
  and (${f.tag}::text is null or step.tags @> array[${f.tag}::text])
  and (${f.olderThanSeconds}::float8 is null
    or step.created_at <= fleet_q.clock() - make_interval(secs => ${f.olderThanSeconds}::float8))
  and (${f.newerThanSeconds}::float8 is null
    or step.created_at >= fleet_q.clock() - make_interval(secs => ${f.newerThanSeconds}::float8))`

const matches = (sql: Sql, f: ListFilter) => sql`
  ${fits(sql, f)}
  and (${f.pod}::text is null or pods.public_id = ${f.pod} or pods.name = ${f.pod})
  and (${f.status}::text is null or ${f.status} = case
    when outcome.step_id is not null then outcome.status::text
    when claim.step_id is not null then 'claimed'
    else 'pending' end)
  ${
    f.executionStatus
      ? sql`and ${f.executionStatus} = case
          when outcome.step_id is not null then replace(outcome.status::text, 'skipped', 'cancelled')
          when claim.step_id is not null or later.why::text in ('sleep', 'wait', 'attention')
            or exists (select from fleet_q.attempts where attempts.step_id = step.id offset 0) then 'running'
          else 'scheduled' end`
      : sql``
  }`

/**
 * Newest first, one bounded window at a time: a page never looks at more than `window` steps, however rare what is
 * asked for, and its cursor goes on where the window ended. Steps that did not complete are found through their
 * own index; a window over them passes no completed ones.
 *
 * The window is written out in both places, not shared: as a subquery it keeps its order, so a page of 20 looks at 20
 * steps where all fit, not at 10,000. `coalesce`: as `or`, the cursor would filter a walk from the newest step on.
 */
export const listSteps = (
  sql: Sql,
  filter: ListFilter,
  before: string | null,
  window: number,
  limit: number,
) => {
  const end = sql`coalesce(${before}::bigint, 9223372036854775807)`
  const span = filter.attention
    ? sql`select step_id as id from fleet_q.later where why = 'attention' and step_id < ${end}
        order by why desc, step_id desc limit ${window}`
    : filter.status === 'failed' || filter.status === 'cancelled' || filter.status === 'skipped'
      ? sql`select step_id as id from fleet_q.outcomes
          where status = ${filter.status}::fleet_q.outcome_status and status <> 'completed' and step_id < ${end}
          order by status desc, step_id desc limit ${window}`
      : filter.status === 'claimed'
        ? sql`select distinct held.step_id as id
            from fleet_q.claims, unnest(claims.step_ids) as held (step_id) where held.step_id < ${end}
            order by held.step_id desc limit ${window}`
        : sql`select id from fleet_q.steps where id < ${end} order by id desc limit ${window}`
  return sql<(StepRow & { window_end: string; window_full: boolean })[]>`
    with /* step.list */ held as materialized (
      -- The newest claim that names a step: with an older one it was handed in, and another attempt followed.
      select distinct on (h.step_id) claims.id, claims.pod_id, claims.taken_at, h.step_id, h.attempt
      from fleet_q.claims, unnest(claims.step_ids, claims.attempts) as h (step_id, attempt)
      order by h.step_id, claims.id desc
    ),
    edge as (select min(id) as window_end, count(*) >= ${window} as window_full from (${span}) as span)
    select page.*, edge.window_end, coalesce(edge.window_full, false) as window_full
    from edge left join lateral (
      select ${stepColumns(sql)}
      from (${span}) as span
      cross join lateral (select * from fleet_q.steps where id = span.id offset 0) as step
      cross join lateral (select * from fleet_q.lanes where id = step.lane_id offset 0) as lanes
      left join lateral (select * from fleet_q.outcomes where step_id = span.id offset 0) as outcome on true
      left join lateral (select * from fleet_q.later where step_id = span.id offset 0) as later on true
      left join held as claim on claim.step_id = span.id and outcome.claim_id is null
        and not exists (
          select from fleet_q.attempts
          where attempts.step_id = claim.step_id and attempts.claim_id = claim.id offset 0)
      left join lateral (
        select public_id, name from fleet_q.pods where id = coalesce(outcome.pod_id, claim.pod_id) offset 0
      ) as pods on true
      where ${matches(sql, filter)}
      order by span.id desc limit ${limit}
    ) as page on true`
}
