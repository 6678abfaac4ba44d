import type { Sql } from '../db/connect.ts'

export interface LimitRow {
  type: string
  max_running: number | null
  max_running_per_key: number | null
}

export const setLimit = (sql: Sql, limit: LimitRow) => sql<LimitRow[]>`
  insert /* step.set_limit */ into fleet_q.limits (type, max_running, max_running_per_key)
  values (${limit.type}, ${limit.max_running}, ${limit.max_running_per_key})
  on conflict (type) do update
  set max_running = excluded.max_running, max_running_per_key = excluded.max_running_per_key
  returning type, max_running, max_running_per_key`

export const removeLimit = (sql: Sql, type: string) => sql<LimitRow[]>`
  delete /* step.remove_limit */ from fleet_q.limits where type = ${type}
  returning type, max_running, max_running_per_key`

export const listLimits = (sql: Sql) => sql<(LimitRow & { running: number })[]>`
  select /* step.limits */ limits.type, max_running, max_running_per_key,
    (
      select count(*) from fleet_q.claims cross join unnest(claims.step_ids) as held (step_id)
      cross join lateral (select lane_id from fleet_q.steps where id = held.step_id offset 0) as step
      cross join lateral (select type from fleet_q.lanes where id = step.lane_id offset 0) as lanes
      where lanes.type = limits.type
        and not exists (select from fleet_q.outcomes where outcomes.step_id = held.step_id offset 0)
        and not exists (
          select from fleet_q.attempts
          where attempts.step_id = held.step_id and attempts.claim_id = claims.id offset 0)
    )::int as running
  from fleet_q.limits order by type limit 1000`

/** The limits among these types: what a pod asks now and then. */
export const findLimitedTypes = (sql: Sql, types: string[]) => sql<{ type: string }[]>`
  select /* step.limited_types */ type from fleet_q.limits where type = any (${types}::text[])`

/** Who holds steps of a limited type, and how many of this key. */
export const findHolders = (sql: Sql, type: string, key: string) => sql<
  (LimitRow & {
    running: number
    running_of_key: number
    holders: { step_id: string; pod_id: string }[] | null
  })[]
>`
  with /* step.holders */ held as materialized (
    select held.step_id, lanes.key, pods.public_id as pod_id,
      fleet_q.step_public_id(step.id, step.salt, step.created_at) as public_id
    from fleet_q.claims
    cross join unnest(claims.step_ids) as held (step_id)
    cross join lateral (
      select id, salt, created_at, lane_id from fleet_q.steps where id = held.step_id offset 0
    ) as step
    cross join lateral (select type, key from fleet_q.lanes where id = step.lane_id offset 0) as lanes
    cross join lateral (select public_id from fleet_q.pods where id = claims.pod_id offset 0) as pods
    where lanes.type = ${type}
      and not exists (select from fleet_q.outcomes where outcomes.step_id = held.step_id offset 0)
      and not exists (
        select from fleet_q.attempts
        where attempts.step_id = held.step_id and attempts.claim_id = claims.id offset 0)
  )
  select limits.type, max_running, max_running_per_key,
    (select count(*) from held)::int as running,
    (select count(*) from held where key = ${key})::int as running_of_key,
    (
      select jsonb_agg(jsonb_build_object('step_id', public_id, 'pod_id', pod_id) order by step_id)
      from (select * from held order by step_id limit 20) as sample
    ) as holders
  from fleet_q.limits where limits.type = ${type}`
