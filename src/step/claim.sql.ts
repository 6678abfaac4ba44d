import type { Sql } from '../db/connect.ts'
import { arcsOf, type Turn } from './circle.ts'

export interface ClaimedStep {
  kind: 'claimed'
  claim_id: string
  step_id: string
  attempt: number
  lane_id: number
  position: string
  salt: string
  /** As Postgres spells it: few ask for it, and a Date for each would be made for nobody. */
  created_at: string
  type: string
  priority: number
  args: Record<string, unknown>
  metadata: Record<string, unknown> | null
  max_retries: number
  timeout_ms: number | null
  retry: Record<string, unknown> | null
  tags: string[] | null
  /** True or null. */
  expired: boolean | null
  /** True or null: nothing is remembered of it. */
  fresh: boolean | null
  /** True or null: another execution has submitted it. */
  has_parent: boolean | null
}

/** Steps that were taken out of their lanes and will not run: they had been cancelled, or are paused. */
export interface DroppedSteps {
  kind: 'dropped'
}

export interface Want {
  podId: string
  types: string[]
  limit: number
  /** Highest priority first. */
  turns: readonly Turn[]
  /** What the pod remembers of lanes: how far it has come, and how far at their front, in negative positions. */
  markLanes: number[]
  markPositions: string[]
  frontLanes: number[]
  frontPositions: string[]
}

type Fragment = ReturnType<Sql>

const arcs = (sql: Sql, turns: readonly Turn[]) => {
  const all = arcsOf(turns)
  return sql`unnest(
    ${all.map((arc) => arc.highest)}::smallint[], ${all.map((arc) => arc.lowest)}::smallint[],
    ${all.map((arc) => arc.first)}::int[], ${all.map((arc) => arc.last)}::int[]
  ) as arc (highest, lowest, first, last)`
}

/** This pod may claim, and the lane is not paused. */
const isOpen = (sql: Sql, podId: string, lanes: Fragment) => sql`(
  exists (select from fleet_q.pods where id = ${podId} and status = 'live' and not drain_wanted)
  and not exists (
    select from fleet_q.pauses as pause
    where (pause.type is null or pause.type = ${lanes}.type) and (pause.key is null or pause.key = ${lanes}.key)
      and (pause.until is null or pause.until > fleet_q.clock())
  ))`

/**
 * The claim walks the lanes of the pod's types, highest priority first and in a circle among equals. Each is two
 * stretches: its front, where what has waited its turn already lies at negative positions, and the rest. Each stretch
 * is entered behind the pod's mark, or the lane's floor: without them every layout walks the queue's dead end and falls
 * from tens of thousands to 3 to 5 thousand steps a second within a minute of a pinned xmin horizon (67 to 77 thousand
 * with them).
 *
 * `limit` stands in a MATERIALIZED CTE, never in `IN (SELECT ... LIMIT)`: that form took 501 rows for LIMIT 1 under
 * stale statistics. Rows are deleted by ctid: they are locked, and a ready row is never updated.
 */
export const claiming = (sql: Sql, want: Want) => sql`
  -- Looked up by name, not joined: as a loop within a loop, 10,000 marks of 10,000 lanes took 5 s.
  mark as materialized (
    select jsonb_object(${want.markLanes}::text[], ${want.markPositions}::text[]) as of_lane,
      jsonb_object(${want.frontLanes}::text[], ${want.frontPositions}::text[]) as of_front
  ),
  -- In the order of an index, not sorted: of ten thousand lanes only as many are looked at as it takes to
  -- fill the claim. A claim that sorted them all first took 40 ms.
  lane as materialized (
    select circle.id, ${want.limit}::int as quota, stretch.above, stretch.below
    from ${arcs(sql, want.turns)}
    cross join lateral (
      select id, type, key, floor from fleet_q.lanes
      where priority between arc.lowest and arc.highest and id between arc.first and arc.last
      order by priority desc, id
    ) as circle
    cross join lateral (values
      (coalesce(((select of_front from mark) ->> circle.id::text)::bigint, -9223372036854775808), 0::bigint),
      (greatest(circle.floor, ((select of_lane from mark) ->> circle.id::text)::bigint), 9223372036854775807)
    ) as stretch (above, below)
    where circle.type = any (${want.types}::text[])
      -- Limited types are claimed by step.claim_limited, one claimer at a time.
      and not exists (select from fleet_q.limits where limits.type = circle.type)
      and ${isOpen(sql, want.podId, sql`circle`)}
  ),
  ${taking(sql, want)}`

/** From the lanes, in their order and each within its quota, into one claim row. */
const taking = (sql: Sql, want: Pick<Want, 'podId' | 'limit'>) => sql`
  candidate as materialized (
    select head.* from lane cross join lateral (
      select ready.ctid as at from fleet_q.ready
      where ready.lane_id = lane.id and ready.position > lane.above and ready.position < lane.below
      order by ready.lane_id, ready.position
      limit least(lane.quota, ${want.limit}::int)
      for update skip locked
    ) as head
    limit ${want.limit}
  ),
  taken as (
    delete from fleet_q.ready where ctid = any (array(select at from candidate))
    returning lane_id, position, step_id, attempt, fresh
  ),
  -- Asked for each only where somebody has paused executions at all.
  held as materialized (
    select taken.step_id, taken.lane_id, taken.attempt, pause.until
    from taken cross join lateral fleet_q.pause_of(taken.step_id) as pause
    where (select exists (select from fleet_q.execution_pauses))
      and not exists (select from fleet_q.outcomes where outcomes.step_id = taken.step_id offset 0)
      -- What is cancelled is undone all the same.
      and not exists (
        select from fleet_q.checkpoints
        where checkpoints.step_id = taken.step_id and name = '$failure' and number = 1 offset 0)
  ),
  put_off as (
    insert into fleet_q.later (step_id, lane_id, due_at, attempt, why)
    select step_id, lane_id, until, attempt, 'pause' from held order by step_id
    on conflict (step_id) do nothing
  ),
  -- A step that was cancelled while it lay here has its outcome: taking it out of the tray is all there is to do.
  -- The same for one whose letter retention has thrown away meanwhile.
  live as materialized (
    select taken.*, step.salt, step.created_at, step.args, step.metadata, step.max_retries, step.timeout_ms,
      step.retry, step.tags, step.expires_at, step.parent_id
    from taken
    cross join lateral (select * from fleet_q.steps where id = taken.step_id offset 0) as step
    where not exists (select from fleet_q.outcomes where outcomes.step_id = taken.step_id offset 0)
      and taken.step_id <> all (array(select step_id from held))
  ),
  claim as (
    insert into fleet_q.claims (pod_id, step_ids, attempts)
    select ${want.podId}, array_agg(step_id), array_agg(attempt) from live having count(*) > 0
    returning id
  )`

export const takenSteps = (sql: Sql) => sql`
  select /* step.taken */ 'claimed' as kind, claim.id as claim_id, live.step_id, live.attempt, live.lane_id, live.position,
    live.salt, live.created_at::text as created_at, lanes.type, lanes.priority, live.args, live.metadata,
    live.max_retries, live.timeout_ms, live.retry, live.tags,
    case when live.expires_at <= fleet_q.clock() then true end as expired,
    -- Looked for only where there may be some: what was just submitted has none.
    case
      when live.fresh then true
      when not exists (select from fleet_q.checkpoints where checkpoints.step_id = live.step_id offset 0) then true
    end as fresh, case when live.parent_id is not null then true end as has_parent
  from claim
  cross join live
  cross join lateral (select type, priority from fleet_q.lanes where id = live.lane_id offset 0) as lanes
  union all
  -- Said, because it is no reason to rest: what lies behind them has not been looked at.
  select 'dropped', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
    null
  where (select count(*) from taken) > (select count(*) from live)`

/** Locks the limits of these types; types that another pod is claiming from just now are left out. */
export const lockLimits = (sql: Sql, types: string[]) => sql<{ type: string }[]>`
  select /* step.lock_limits */ type from fleet_q.limits where type = any (${types}::text[])
  order by type for update skip locked`

/**
 * Claims from types whose limits this transaction has locked; a statement of its own, because only a snapshot that is
 * younger than the lock sees what the pod before has claimed (counted in one statement, limits are exceeded). One
 * lane of each limited whole a time: two lanes that share what is left would each take all of it.
 */
export const claimLimited = (sql: Sql, want: Pick<Want, 'podId' | 'limit' | 'turns'>, types: string[]) => sql<
  (ClaimedStep | DroppedSteps)[]
>`
  with /* step.claim_limited */ turn as materialized (
    select jsonb_object(
      ${want.turns.map(({ priority }) => priority)}::text[], ${want.turns.map(({ lane }) => lane)}::text[]) as lane_of
  ),
  busy as materialized (
    select lanes.type, lanes.key, count(*) as steps
    from fleet_q.claims
    cross join unnest(claims.step_ids) as held (step_id)
    cross join lateral (select lane_id from fleet_q.steps where id = held.step_id offset 0) as step
    cross join lateral (select type, key from fleet_q.lanes where id = step.lane_id offset 0) as lanes
    where lanes.type = any (${types}::text[])
      and not exists (select from fleet_q.outcomes where outcomes.step_id = held.step_id offset 0)
      and not exists (
        select from fleet_q.attempts
        where attempts.step_id = held.step_id and attempts.claim_id = claims.id offset 0)
    group by lanes.type, lanes.key
  ),
  open_lane as materialized (
    select lanes.id, lanes.type, lanes.key, lanes.priority, limits.max_running is not null as whole_type,
      lanes.id <= coalesce(((select lane_of from turn) ->> lanes.priority::text)::int, 0) as had_turn,
      stretch.above, stretch.below,
      least(
        limits.max_running
          - coalesce((select sum(steps) from busy where busy.type = lanes.type), 0),
        limits.max_running_per_key
          - coalesce((select steps from busy where busy.type = lanes.type and busy.key = lanes.key), 0)
      )::int as quota
    from fleet_q.lanes join fleet_q.limits on limits.type = lanes.type
    -- The front if something lies there, else the rest: two stretches of one lane would each take its whole quota.
    cross join lateral (
      select above, below
      from (values (-9223372036854775808, 0::bigint), (lanes.floor, 9223372036854775807)) as both_of (above, below)
      where exists (
        select from fleet_q.ready
        where ready.lane_id = lanes.id and ready.position > above and ready.position < below offset 0)
      order by below limit 1
    ) as stretch
    where lanes.type = any (${types}::text[]) and ${isOpen(sql, want.podId, sql`lanes`)}
  ),
  lane as materialized (
    select id, quota, above, below
    from (
      select distinct on (type, case when not whole_type then key end) *
      from open_lane where quota > 0
      order by type, case when not whole_type then key end, priority desc, had_turn, id
    ) as first_of_each
    order by priority desc, had_turn, id
  ),
  ${taking(sql, want)}
  ${takenSteps(sql)}
  order by priority desc, position`
