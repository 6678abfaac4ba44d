import type { Sql } from '../db/connect.ts'
import { fits } from './read.sql.ts'

/** Above this a count is an estimate: dashboards die of counting. */
export const COUNT_MAX = 100_000

export interface LaneDepth {
  type: string
  priority: number
  key: string
  ready: number
  later: number
}

/**
 * How much waits in each lane. Cancelled steps that still lie in `ready` are left out, as far as the bound goes on
 * both sides: the newest of them, against the front of the tray.
 */
export const countLanes = (sql: Sql) => sql<LaneDepth[]>`
  with /* step.count_lanes */ cancelled as materialized (
    select step_id from fleet_q.outcomes where status = 'cancelled' and status <> 'completed'
    order by step_id desc limit ${COUNT_MAX}
  ),
  dead as materialized (
    select lane_id, count(*) as steps from (select lane_id, step_id from fleet_q.ready limit ${COUNT_MAX}) as front
    where (step_id in (select step_id from cancelled)) is true
    group by lane_id
  ),
  delayed as materialized (
    select lane_id, count(*) as steps
    from (select lane_id from fleet_q.later limit ${COUNT_MAX}) as l group by lane_id
  )
  select lanes.type, lanes.priority, lanes.key, waiting.ready::int as ready, waiting.later::int as later
  from fleet_q.lanes
  cross join lateral (
    select count(*) as steps
    from (select 1 from fleet_q.ready where ready.lane_id = lanes.id limit ${COUNT_MAX}) as r
  ) as depth
  left join dead on dead.lane_id = lanes.id
  left join delayed on delayed.lane_id = lanes.id
  cross join lateral (
    select greatest(depth.steps - coalesce(dead.steps, 0), 0) as ready, coalesce(delayed.steps, 0) as later
  ) as waiting
  where waiting.ready > 0 or waiting.later > 0`

/** How long the first in line of each type has been there. What comes back for another try is no measure of that. */
export const findOldestReady = (sql: Sql) => sql<{ type: string; seconds: number }[]>`
  select /* step.oldest_ready */ lanes.type,
    extract(epoch from fleet_q.clock() - min(coalesce(step.run_at, step.created_at)))::float8 as seconds
  from fleet_q.lanes
  cross join lateral (
    select step_id from fleet_q.ready
    where ready.lane_id = lanes.id and ready.position > lanes.floor and attempt = 1
    order by ready.lane_id, ready.position limit 1
  ) as head
  cross join lateral (select run_at, created_at from fleet_q.steps where id = head.step_id offset 0) as step
  where not exists (select from fleet_q.outcomes where outcomes.step_id = head.step_id offset 0)
    and not exists (select from fleet_q.attempts where attempts.step_id = head.step_id offset 0)
  group by lanes.type`

export interface OutcomeCounts {
  completed: number
  failed: number
  cancelled: number
  skipped: number
  claimed: number
  estimated: boolean
}

/** What did not complete is counted by its index; completed steps exactly up to the bound, then by statistics. */
export const countOutcomes = (sql: Sql) => sql<OutcomeCounts[]>`
  with /* step.count_outcomes */ wrong as materialized (
    select status, count(*) as steps from (
      select status from fleet_q.outcomes where status <> 'completed' limit ${COUNT_MAX}
    ) as o group by status
  ),
  settled as materialized (
    select count(*) as steps from (select 1 from fleet_q.outcomes limit ${COUNT_MAX + 1}) as o
  ),
  size as materialized (
    select greatest(
      (select steps from settled),
      case when (select steps from settled) > ${COUNT_MAX}
        then (select reltuples::bigint from pg_class where oid = 'fleet_q.outcomes'::regclass) else 0 end
    ) as steps
  )
  select
    greatest(size.steps - coalesce((select sum(steps) from wrong), 0), 0)::float8 as completed,
    coalesce((select steps from wrong where status = 'failed'), 0)::float8 as failed,
    coalesce((select steps from wrong where status = 'cancelled'), 0)::float8 as cancelled,
    coalesce((select steps from wrong where status = 'skipped'), 0)::float8 as skipped,
    (
      select count(*) from fleet_q.claims, unnest(claims.step_ids) as held (step_id)
      where not exists (select from fleet_q.outcomes where outcomes.step_id = held.step_id offset 0)
        and not exists (
          select from fleet_q.attempts
          where attempts.step_id = held.step_id and attempts.claim_id = claims.id offset 0)
    )::float8 as claimed,
    (select steps from settled) > ${COUNT_MAX} as estimated
  from size`

export interface PauseWish {
  type: string | null
  key: string | null
  until: string | null
  reason: string | null
}

/**
 * Waits for every claim that is under way: each reads `pauses`, and keeps the lock of a reader to its commit. A claim
 * that comes later takes its snapshot when it has that lock, and so sees whatever was committed before this.
 */
export const waitForClaims = async (sql: Sql, patienceMs: number) => {
  await sql`select /* step.pause_patience */ set_config('lock_timeout', ${String(patienceMs)}, true)`
  await sql`/* step.pause_alone */ lock table fleet_q.pauses in access exclusive mode`
}

export const addPause = (sql: Sql, pause: PauseWish) => sql<PauseRow[]>`
  insert /* step.pause */ into fleet_q.pauses as pause (type, key, until, reason)
  values (${pause.type}, ${pause.key}, ${pause.until}, ${pause.reason})
  on conflict (coalesce(type, ''), coalesce(key, ''))
  do update set until = excluded.until, reason = excluded.reason, paused_at = fleet_q.clock()
  returning type, key, paused_at, until, reason`

export const removePause = (sql: Sql, pause: { type: string | null; key: string | null }) => sql<PauseRow[]>`
  delete /* step.resume */ from fleet_q.pauses
  where coalesce(type, '') = coalesce(${pause.type}::text, '') and coalesce(key, '') = coalesce(${pause.key}::text, '')
  returning type, key, paused_at, until, reason`

export interface PauseRow {
  type: string | null
  key: string | null
  paused_at: Date
  until: Date | null
  reason: string | null
}

export const listPauses = (sql: Sql) => sql<PauseRow[]>`
  select /* step.pauses */ type, key, paused_at, until, reason from fleet_q.pauses
  where until is null or until > fleet_q.clock()
  order by id limit 1000`

/** Pauses that hold back a step of this type and key. */
export const findPauses = (sql: Sql, type: string, key: string) => sql<PauseRow[]>`
  select /* step.pauses_of */ type, key, paused_at, until, reason from fleet_q.pauses
  where (type is null or type = ${type}) and (key is null or key = ${key})
    and (until is null or until > fleet_q.clock())
  order by id limit 10`

/** Steps of a type settled in the last minutes, for an estimate of when another's turn comes; a bounded look. */
export const countSettledLately = (sql: Sql, minutes: number) => sql<{ steps: number }[]>`
  select /* step.settled_lately */ count(*)::int as steps
  from (select settled_at from fleet_q.outcomes order by step_id desc limit 5000) as newest
  where settled_at > fleet_q.clock() - make_interval(mins => ${minutes})`

/** Candidates of a bulk cancel: what has no outcome and fits the filter. */
export interface BulkFilter {
  status: string[]
  type: string | null
  tag: string | null
  pod: string | null
  key: string | null
  olderThanSeconds: number | null
  newerThanSeconds: number | null
  /** Only what is parked until somebody looks at it. */
  attention: boolean
}

/** Keys are sorted before anything is looked up by them: a batch of 500 from a lane of 1,000,000 looks up 500. */
export const findLiveSteps = (sql: Sql, f: BulkFilter, after: string, limit: number) => sql<
  { id: string; step_id: string }[]
>`
  with /* step.bulk_live */ lane as materialized (
    select id from fleet_q.lanes
    where (${f.type}::text is null or type = ${f.type}) and (${f.key}::text is null or key = ${f.key})
  ),
  live as materialized (
    select waiting.step_id, null::bigint as pod_id, 'pending' as status from lane
    cross join lateral (
      select step_id from fleet_q.ready
      where not ${f.attention}::boolean and lane_id = lane.id and step_id > ${after} offset 0
    ) as waiting
    union all
    select step_id, null, 'pending' from fleet_q.later
    where step_id > ${after} and (lane_id in (select id from lane)) is true
      and (not ${f.attention}::boolean or why = 'attention')
    union all
    select held.step_id, claims.pod_id, 'claimed'
    from fleet_q.claims, unnest(claims.step_ids) as held (step_id)
    where not ${f.attention}::boolean and held.step_id > ${after}
      and not exists (
        select from fleet_q.attempts
        where attempts.step_id = held.step_id and attempts.claim_id = claims.id offset 0)
  )
  select step.id, fleet_q.step_public_id(step.id, step.salt, step.created_at) as step_id
  from (select * from live where status = any (${f.status}::text[]) order by step_id) as live
  cross join lateral (select * from fleet_q.steps where id = live.step_id offset 0) as step
  left join lateral (select public_id, name from fleet_q.pods where id = live.pod_id offset 0) as pods on true
  where (step.lane_id in (select id from lane)) is true
    and (${f.tag}::text is null or step.tags @> array[${f.tag}::text])
    and (${f.pod}::text is null or pods.public_id = ${f.pod} or pods.name = ${f.pod})
    and (${f.olderThanSeconds}::float8 is null
      or step.created_at <= fleet_q.clock() - make_interval(secs => ${f.olderThanSeconds}::float8))
    and (${f.newerThanSeconds}::float8 is null
      or step.created_at >= fleet_q.clock() - make_interval(secs => ${f.newerThanSeconds}::float8))
    and not exists (select from fleet_q.outcomes where outcomes.step_id = live.step_id offset 0)
  order by live.step_id limit ${limit}`

/** Candidates of a bulk retry: what ended and did not complete. */
export const findEndedSteps = (sql: Sql, f: BulkFilter, after: string, limit: number) => {
  // Each status by its own end of the index, merged in key order: of all at once, each batch would sort the rest.
  const ended = (status: 'failed' | 'cancelled' | 'skipped') => sql`
    (
      select step_id, pod_id from fleet_q.outcomes
      where status = ${status}::text::fleet_q.outcome_status and status <> 'completed'
        and ${status}::text = any (${f.status}::text[]) and step_id > ${after}
      order by step_id
    )`
  return sql<{ id: string; step_id: string }[]>`
    select /* step.bulk_ended */ step.id, fleet_q.step_public_id(step.id, step.salt, step.created_at) as step_id
    from (${ended('failed')} union all ${ended('cancelled')} union all ${ended('skipped')}) as outcome
    cross join lateral (select * from fleet_q.steps where id = outcome.step_id offset 0) as step
    cross join lateral (select type, key from fleet_q.lanes where id = step.lane_id offset 0) as lanes
    left join lateral (select public_id, name from fleet_q.pods where id = outcome.pod_id offset 0) as pods on true
    where ${fits(sql, f)}
      and (${f.pod}::text is null or pods.public_id = ${f.pod} or pods.name = ${f.pod})
    order by outcome.step_id limit ${limit}`
}
