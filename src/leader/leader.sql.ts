import type { Sql } from '../db/connect.ts'

/**
 * The eldest living pod leads: born first, heard of within its own threshold. A pod whose leadership hung or threw
 * stands behind all others for a while, but still leads where there is nobody else.
 */
const eldest = (sql: Sql) => sql`(
  select id from fleet_q.pods
  where status = 'live' and leader_eligible
    and beat_at > fleet_q.clock() - make_interval(secs => dead_after_ms::float8 / 1000)
  order by coalesce(benched_until > fleet_q.clock(), false), born_at, id
  limit 1)`

/** Ends the open term of another pod, if this one is the eldest now. */
export const succeed = (sql: Sql, podId: string) => sql<
  { term: string; pod_id: string; ended_why: string }[]
>`
  update /* leader.succeed */ fleet_q.leader_terms as term
  set ended_at = fleet_q.clock(), ended_why = case
    when pods.status = 'dead' then 'the pod died'
    when pods.status = 'gone' then 'the pod said goodbye'
    when pods.status = 'draining' then 'the pod is draining'
    when pods.benched_until > fleet_q.clock() then 'its round hung or failed'
    when pods.beat_at <= fleet_q.clock() - make_interval(secs => pods.dead_after_ms::float8 / 1000)
      then 'the pod fell silent'
    else 'an older pod is alive' end
  from fleet_q.pods
  where term.ended_at is null and term.pod_id <> ${podId} and pods.id = term.pod_id
    and ${eldest(sql)} = ${podId}
  returning term.term, term.pod_id, term.ended_why`

/** A row an accession; the partial unique index allows one open term. */
export const accede = (sql: Sql, podId: string) => sql<{ term: string }[]>`
  insert /* leader.accede */ into fleet_q.leader_terms (pod_id, began_why)
  select ${podId}, 'oldest living pod'
  where ${eldest(sql)} = ${podId}
  on conflict ((true)) where ended_at is null do nothing
  returning term`

export const findOpenTerm = (sql: Sql, podId: string) => sql<{ term: string }[]>`
  select /* leader.open_term */ term from fleet_q.leader_terms where ended_at is null and pod_id = ${podId}`

/** A round of chores ended well. No row: the term is over. */
export const prove = (sql: Sql, term: string) => sql<{ term: string }[]>`
  update /* leader.prove */ fleet_q.leader_terms set proved_at = fleet_q.clock()
  where term = ${term} and ended_at is null
  returning term`

export const resign = (sql: Sql, term: string, why: string) => sql`
  update /* leader.resign */ fleet_q.leader_terms set ended_at = fleet_q.clock(), ended_why = ${why}
  where term = ${term} and ended_at is null`

/** Takes the term from a leader that has proved nothing for `hangMs`, and benches it. Any pod may. */
export const depose = (sql: Sql, hangMs: number, benchMs: number) => sql<{ pod_id: string; term: string }[]>`
  with /* leader.depose */ ended as (
    update fleet_q.leader_terms set ended_at = fleet_q.clock(), ended_why = 'proved nothing for too long'
    where ended_at is null and proved_at < fleet_q.clock() - make_interval(secs => ${hangMs}::float8 / 1000)
    returning pod_id, term
  ),
  benched as (
    update fleet_q.pods set benched_until = fleet_q.clock() + make_interval(secs => ${benchMs}::float8 / 1000)
    where id in (select pod_id from ended)
  )
  select pod_id, term from ended`

export const bench = (sql: Sql, podId: string, benchMs: number) => sql`
  update /* leader.bench */ fleet_q.pods
  set benched_until = fleet_q.clock() + make_interval(secs => ${benchMs}::float8 / 1000)
  where id = ${podId}`
