import type { Sql } from '../../../src/db/connect.ts'
import { DEAD_AFTER_SECONDS } from '../keep-pod.ts'

/** Of each step that a killed pod held: how long until it was claimed again, where nothing else was broken meanwhile. */
export const recoveryTimes = (sql: Sql) => sql<
  { ms: number; put_back_ms: number; pod: string; killed_at: Date }[]
>`
  with held as (
    select kills.at as killed_at, kills.pod_id as pod, taken.seq, taken.step_id, taken.claim_id
    from chaos.kills join fleet_q.pods on pods.public_id = kills.pod_id
    join chaos.taken on taken.pod_id = pods.id and taken.at < kills.at
    where not exists (
      select from chaos.audit where audit.step_id = taken.step_id and what in ('tried', 'settled')
        and (audit.claim_id = taken.claim_id or audit.claim_id is null) and audit.at < kills.at)
  ),
  again as (
    select held.killed_at, held.pod, held.step_id, min(tried.at) as put_back_at, min(next.at) as at
    from held
    join chaos.audit as tried on tried.what = 'tried' and tried.step_id = held.step_id
      and tried.claim_id = held.claim_id and tried.detail = 'pod_died'
    join chaos.taken as next on next.step_id = held.step_id and next.seq > held.seq
    group by 1, 2, 3
  )
  select extract(epoch from at - killed_at)::float8 * 1000 as ms,
    extract(epoch from put_back_at - killed_at)::float8 * 1000 as put_back_ms, pod, killed_at
  from again
  where not exists (
    select from chaos.outages
    where began_at < again.at and ended_at + make_interval(secs => ${2 * DEAD_AFTER_SECONDS}) > killed_at)
  order by ms`
