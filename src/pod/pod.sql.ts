import type { Sql } from '../db/connect.ts'

export interface NewPod {
  publicId: string
  name: string
  version: string
  types: string[]
  capacity: number
  deadAfterMs: number
  leaderEligible: boolean
}

export const registerPod = (sql: Sql, pod: NewPod) => sql<{ id: string; born_at: Date }[]>`
  insert /* pod.register */ into fleet_q.pods
    (public_id, name, version, types, capacity, dead_after_ms, leader_eligible)
  values (${pod.publicId}, ${pod.name}, ${pod.version}, ${pod.types}::text[], ${pod.capacity}, ${pod.deadAfterMs},
    ${pod.leaderEligible})
  returning id, born_at`

export interface Beat {
  status: 'live' | 'draining'
  drain_wanted: boolean
  /** No older pod that may lead is living. */
  eldest: boolean
  /** Milliseconds until the next pod that fell silent passes its threshold; null when none is about to. */
  suspect_ms: number | null
  /** Of the term that is open, whoever holds it. */
  leader_id: string | null
  leader_term: string | null
  /** Since the leader last ended a round of chores well. */
  leader_unproved_ms: number | null
  /** The last recovery cycle that ended. */
  last_cycle: string | null
  /** How far steps and positions have been drawn: an idle pod looks for work only where they have moved. */
  last_step: string
  last_position: string
  /** Transactions before the first have all ended; the second is the next to begin. */
  ended_before: string
  begun_before: string
  limited_types: string[]
  /** Something is paused, perhaps until a time that nobody will call out. */
  paused: boolean
}

/**
 * One beat: a HOT update of one row, guarded by status. No row: this pod was declared dead, or has said goodbye; it
 * never lives again. The answer carries what a pod needs to know of the others, so that an idle one asks nothing else.
 */
export const beatHeart = (
  sql: Sql,
  pod: { id: string; heartbeatMs: number; running: number; stuck: number },
) => sql<Beat[]>`
  with /* pod.beat */ beat as (
    update fleet_q.pods set
      beat_at = fleet_q.clock(), running = ${pod.running}, stuck = ${pod.stuck},
      resumed_at = case
        -- One beat was missed. In an outage that is just long enough to cost another pod its threshold (three beats,
        -- one of which may have been due when it began), a leader's own gap may be as short as two.
        when beat_at < fleet_q.clock() - make_interval(secs => ${pod.heartbeatMs}::float8 * 1.75 / 1000)
        then fleet_q.clock() else resumed_at end
    where id = ${pod.id} and status in ('live', 'draining')
    returning id, status, drain_wanted, born_at
  )
  select beat.status, beat.drain_wanted,
    not exists (
      select from fleet_q.pods as elder
      where elder.status = 'live' and elder.leader_eligible
        and (elder.benched_until is null or elder.benched_until < fleet_q.clock())
        and elder.beat_at > fleet_q.clock() - make_interval(secs => elder.dead_after_ms::float8 / 1000)
        and (elder.born_at, elder.id) < (beat.born_at, beat.id)
    ) as eldest,
    (
      select extract(epoch from min(
        greatest(silent.beat_at, pg_postmaster_start_time())
          + make_interval(secs => silent.dead_after_ms::float8 / 1000)) - fleet_q.clock())::float8 * 1000
      from fleet_q.pods as silent
      where silent.status in ('live', 'draining') and silent.id <> beat.id
        and silent.beat_at < fleet_q.clock() - make_interval(secs => ${pod.heartbeatMs}::float8 * 1.5 / 1000)
        -- Who is past it already waits for the leader's verdict. To look for that would bring the next look at once, 80
        -- beats a second for as long as it takes; and it would hide the moment at which the next one passes.
        and greatest(silent.beat_at, pg_postmaster_start_time())
          + make_interval(secs => silent.dead_after_ms::float8 / 1000) > fleet_q.clock()
    ) as suspect_ms,
    term.pod_id as leader_id, term.term as leader_term,
    extract(epoch from fleet_q.clock() - term.proved_at)::float8 * 1000 as leader_unproved_ms,
    (
      select cycle.id from fleet_q.recovery_cycles as cycle where cycle.finished_at is not null
      order by cycle.id desc limit 1
    ) as last_cycle,
    (select last_value from fleet_q.step_ids) as last_step,
    (select last_value from fleet_q.positions) as last_position,
    pg_snapshot_xmin(pg_current_snapshot())::text as ended_before,
    pg_snapshot_xmax(pg_current_snapshot())::text as begun_before,
    array(select type from fleet_q.limits order by type) as limited_types,
    exists (select from fleet_q.pauses) as paused
  from beat left join fleet_q.leader_terms as term on term.ended_at is null`

export const startDraining = (sql: Sql, id: string) => sql`
  update /* pod.drain */ fleet_q.pods set status = 'draining' where id = ${id} and status = 'live'`

/** Ends a pod's own row: goodbye, or a stall that its watcher thread saw. */
export const endPod = (sql: Sql, id: string, status: 'gone' | 'dead', why: string) => sql<{ id: string }[]>`
  update /* pod.end */ fleet_q.pods
  set status = ${status}::fleet_q.pod_status, ended_at = fleet_q.clock(), ended_why = ${why}, running = 0
  where id = ${id} and status in ('live', 'draining')
  returning id`

export const wishDrain = (sql: Sql, publicId: string, wanted: boolean) => sql<
  { public_id: string; status: string }[]
>`
  update /* pod.wish_drain */ fleet_q.pods set drain_wanted = ${wanted}
  where public_id = ${publicId} and status in ('live', 'draining')
  returning public_id, status`

export interface PodRow {
  id: string
  public_id: string
  name: string
  status: 'live' | 'draining' | 'dead' | 'gone'
  version: string
  types: string[]
  capacity: number
  running: number
  stuck: number
  refused: string
  drain_wanted: boolean
  leader_eligible: boolean
  born_at: Date
  beat_at: Date
  silent_seconds: number
  dead_after_seconds: number
  ended_at: Date | null
  ended_why: string | null
  held: number
  is_leader: boolean
}

export const listPods = (sql: Sql, living: boolean, limit: number) => sql<PodRow[]>`
  select /* pod.list */ pods.id, public_id, name, status, version, types, capacity, running, stuck, refused,
    drain_wanted, leader_eligible, born_at, beat_at,
    extract(epoch from fleet_q.clock() - beat_at)::float8 as silent_seconds,
    dead_after_ms::float8 / 1000 as dead_after_seconds, pods.ended_at, pods.ended_why,
    coalesce((select sum(cardinality(step_ids)) from fleet_q.claims where claims.pod_id = pods.id), 0)::int as held,
    term.term is not null as is_leader
  from fleet_q.pods left join fleet_q.leader_terms as term on term.pod_id = pods.id and term.ended_at is null
  where not ${living} or status in ('live', 'draining')
  order by (status in ('live', 'draining')) desc, case when status in ('live', 'draining') then born_at end,
    pods.ended_at desc nulls first, pods.id
  limit ${limit}`

export const findPod = (sql: Sql, publicId: string) => sql<{ id: string; status: string }[]>`
  select /* pod.find */ id, status from fleet_q.pods where public_id = ${publicId}`

/** Rings the pods, if anybody else is there to hear it. Never inside a submit's transaction. */
export const ringPods = (sql: Sql, payload: string, podId: string) => sql`
  select /* pod.ring */ pg_notify('fleet_q', ${payload})
  where exists (select from fleet_q.pods where status = 'live' and id <> ${podId})`

/** Every type that a living pod has a handler for. */
export const findTypesHandled = (sql: Sql) => sql<{ type: string }[]>`
  select /* pod.types */ distinct unnest(types) as type from fleet_q.pods where status = 'live'`

export interface Slots {
  capacity: number
  live_pods: number
  running: number
  /** The largest pod, to reckon how many are wanted. */
  capacity_max: number
}

export const sumSlots = (sql: Sql) => sql<Slots[]>`
  select /* pod.slots */ coalesce(sum(capacity), 0)::int as capacity, count(*)::int as live_pods,
    coalesce(sum(running), 0)::int as running, coalesce(max(capacity), 0)::int as capacity_max
  from fleet_q.pods where status = 'live'`
