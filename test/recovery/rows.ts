import type postgres from 'postgres'

/** Fleets that are rows only: for what is a matter of statements and their order, and needs no process. */

interface PodWish {
  name?: string
  status?: 'live' | 'draining' | 'dead' | 'gone'
  /** Since its last heartbeat. */
  silentMs?: number
  ageMs?: number
  deadAfterMs?: number
  /** Since it was heard of again after a gap. */
  resumedMs?: number | null
}

export async function makePod(sql: postgres.ISql, wish: PodWish = {}): Promise<string> {
  const {
    name = 'made',
    status = 'live',
    silentMs = 0,
    ageMs = 3_600_000,
    deadAfterMs = 15_000,
    resumedMs,
  } = wish
  const ended = status === 'dead' || status === 'gone'
  const [row] = await sql<{ id: string }[]>`
    insert into fleet_q.pods (
      public_id, name, status, version, types, capacity, dead_after_ms, leader_eligible, born_at, beat_at, resumed_at,
      ended_at, ended_why)
    select ${name} || '-' || gen_random_uuid(), ${name}, ${status}, '0', '{made}', 8, ${deadAfterMs}, true,
      at - make_interval(secs => ${ageMs / 1000}), at - make_interval(secs => ${silentMs / 1000}),
      at - make_interval(secs => ${resumedMs === undefined || resumedMs === null ? null : resumedMs / 1000}),
      case when ${ended} then at end, case when ${ended} then 'made so' end
    from (select fleet_q.clock() as at) as now
    returning id`
  return row?.id ?? ''
}

/** An open term; a second one is possible only where the test has dropped the index that forbids it. */
export async function makeTerm(sql: postgres.Sql, podId: string): Promise<string> {
  const [row] = await sql<{ term: string }[]>`
    insert into fleet_q.leader_terms (pod_id, began_why) values (${podId}, 'made') returning term`
  return row?.term ?? ''
}

export interface MadeClaim {
  id: string
  pod_id: string
  step_ids: string[]
}

/** Steps that pods hold, `perClaim` in a claim; the pods take the claims in turn. */
export async function makeClaims(
  sql: postgres.Sql,
  podIds: string[],
  options: { claims: number; perClaim: number; maxRetries?: number },
): Promise<MadeClaim[]> {
  const { claims, perClaim, maxRetries = 3 } = options
  return sql<MadeClaim[]>`
    with lane as (select fleet_q.lane_of('made', 0, '') as id),
    made as (
      insert into fleet_q.steps (salt, lane_id, max_retries, args)
      select n, lane.id, ${maxRetries}, '{}' from lane, generate_series(1, ${claims * perClaim}::int) as n
      returning id
    ),
    numbered as (select id, (row_number() over (order by id) - 1) / ${perClaim}::int as batch from made)
    insert into fleet_q.claims (pod_id, step_ids, attempts)
    select (${podIds}::bigint[])[1 + batch % ${podIds.length}::int], array_agg(id order by id),
      array_agg(1::smallint order by id)
    from numbered group by batch order by batch
    returning id, pod_id, step_ids`
}
