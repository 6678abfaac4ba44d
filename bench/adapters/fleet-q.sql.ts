import type postgres from 'postgres'

/** What templates hold, and what is read back. The only place of the bench that knows our tables. */

/** In their lane and waiting, in order, as a submit leaves them. */
export async function fillReady(
  sql: postgres.Sql,
  {
    jobs,
    type = 'job',
    lanes = 1,
    priority = 0,
    pad = '',
  }: { jobs: number; type?: string; lanes?: number; priority?: number; pad?: string },
): Promise<void> {
  await sql`
    with lane as materialized (
      select n, fleet_q.lane_of(${type}, ${priority}::int, case when ${lanes}::int > 1 then 'k' || n else '' end) as id
      from generate_series(0, ${lanes}::int - 1) as n
    ),
    fresh as materialized (
      select nextval('fleet_q.step_ids') as id, ordered.n, ordered.lane_id from (
        select number.n, lane.id as lane_id
        from generate_series(0, ${jobs}::int - 1) as number (n) join lane on lane.n = number.n % ${lanes}::int
        order by number.n
      ) as ordered
    ),
    written as (
      insert into fleet_q.steps (id, salt, lane_id, max_retries, args)
      select id, (random() * 1e18)::bigint, lane_id, 3,
        jsonb_build_object('n', n) || case when ${pad} = '' then '{}' else jsonb_build_object('pad', ${pad}::text) end
      from fresh order by id
    )
    insert into fleet_q.ready (lane_id, step_id, attempt, fresh) select lane_id, id, 1, true from fresh order by id`
}

/** Due in a year. */
export async function fillLater(sql: postgres.Sql, jobs: number): Promise<void> {
  await sql`
    with lane as materialized (select fleet_q.lane_of('job', 0, '') as id),
    fresh as materialized (
      select nextval('fleet_q.step_ids') as id, n from generate_series(1, ${jobs}::int) as n
    ),
    written as (
      insert into fleet_q.steps (id, salt, lane_id, max_retries, run_at, args)
      select fresh.id, (random() * 1e18)::bigint, lane.id, 3, now() + interval '1 year' + n * interval '1 ms', '{}'
      from fresh, lane
    )
    insert into fleet_q.later (step_id, lane_id, due_at, attempt, why)
    select fresh.id, lane.id, now() + interval '1 year' + n * interval '1 ms', 1, 'delay' from fresh, lane`
}

/** Settled in the last hours, within retention. */
export async function fillOutcomes(sql: postgres.Sql, jobs: number): Promise<void> {
  await sql`
    with lane as materialized (select fleet_q.lane_of('past', 0, '') as id),
    fresh as materialized (
      select nextval('fleet_q.step_ids') as id, n from generate_series(1, ${jobs}::int) as n
    ),
    written as (
      insert into fleet_q.steps (id, salt, lane_id, max_retries, created_at, args)
      select fresh.id, (random() * 1e18)::bigint, lane.id, 3, now() - interval '3 hours', jsonb_build_object('n', n)
      from fresh, lane
    )
    insert into fleet_q.outcomes (step_id, status, attempt, claim_id, pod_id, started_at, settled_at, result)
    select id, 'completed', 1, 0, 0, now() - interval '2 hours', now() - interval '2 hours', jsonb_build_object('n', n)
    from fresh`
}

/** Held by a pod that will be found dead when `dieSoon` has passed: what recovery is to find. */
export async function fillOrphans(
  sql: postgres.Sql,
  { jobs, perClaim, type }: { jobs: number; perClaim: number; type: string },
): Promise<void> {
  await fillReady(sql, { jobs, type })
  await sql`
    with pod as (
      insert into fleet_q.pods (public_id, name, version, types, capacity, dead_after_ms, leader_eligible)
      values ('pod-bench-0000000000', 'bench', '0', ${[type]}::text[], ${perClaim}, 3000, false)
      returning id
    ),
    taken as (delete from fleet_q.ready returning step_id),
    batch as (
      select step_id, (row_number() over (order by step_id) - 1) / ${perClaim}::int as number from taken
    )
    insert into fleet_q.claims (pod_id, step_ids, attempts)
    select pod.id, array_agg(step_id order by step_id), array_agg(1::smallint) from batch, pod group by pod.id, number`
}

/** Its last sign of life: it is silent for too long when so much time has passed. */
export async function dieSoon(sql: postgres.Sql, ms: number): Promise<void> {
  await sql`
    update fleet_q.pods set beat_at = now() + make_interval(secs => (${ms}::float8 - dead_after_ms) / 1000)
    where public_id = 'pod-bench-0000000000'`
}

export interface CycleSpan {
  fromMs: number
  toMs: number
}

/** How many steps recovery has put back, and how long ago its first such cycle began and its last one ended. */
export async function readCycles(sql: postgres.Sql) {
  const [row] = await sql<{ requeued: number; agoFromMs: number; agoToMs: number }[]>`
    select coalesce(sum(requeued), 0)::int as requeued,
      coalesce(extract(epoch from clock_timestamp() - min(started_at)), 0)::float8 * 1000 as "agoFromMs",
      coalesce(extract(epoch from clock_timestamp() - max(finished_at)), 0)::float8 * 1000 as "agoToMs"
    from fleet_q.recovery_cycles where requeued > 0`
  return row ?? { requeued: 0, agoFromMs: 0, agoToMs: 0 }
}

/** A claim ends when the last of its steps is settled. */
export const CLAIMS_LEFT = 'select count(*)::int as left from fleet_q.claims'

/** Each step has one outcome, completed, with the result of its own arguments, and nothing is left in any tray. */
export const TALLY = `
  select
    (select count(*) from fleet_q.outcomes)::int as ended,
    (select count(*) from fleet_q.steps as s where not exists (
      select from fleet_q.outcomes as o where o.step_id = s.id))::int as left,
    (select count(*) from fleet_q.outcomes as o left join fleet_q.steps as s on s.id = o.step_id
      where o.status <> 'completed' or o.result -> 'n' is distinct from s.args -> 'n')::int as wrong`

/** What executions remember, all of it: an open one has no result. */
export const KEPT = `
  select step_id as execution, name, case when turn is not null and error is null then result end as result
  from fleet_q.checkpoints`

/** Cheap where there are few. */
export async function countOutcomes(sql: postgres.Sql): Promise<number> {
  const [row] = await sql<{ ended: number }[]>`select count(*)::int as ended from fleet_q.outcomes`
  return row?.ended ?? 0
}
