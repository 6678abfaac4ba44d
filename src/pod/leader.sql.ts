import type { Sql } from '../db/connect.ts'

/** Who leads, for people; how it comes about is written in the folder `leader`. */
export interface LeaderRow {
  term: string
  public_id: string
  born_at: Date
  began_at: Date
  began_why: string
  proved_at: Date
}

export const findLeader = (sql: Sql) => sql<LeaderRow[]>`
  select /* pod.leader */ term.term, pods.public_id, pods.born_at, term.began_at, term.began_why, term.proved_at
  from fleet_q.leader_terms as term join fleet_q.pods on pods.id = term.pod_id
  where term.ended_at is null`

export const findEligiblePods = (sql: Sql) => sql<
  { public_id: string; born_at: Date; beat_at: Date; is_leader: boolean; status: string; benched: boolean }[]
>`
  select /* pod.eligible */ pods.public_id, pods.born_at, pods.beat_at, term.term is not null as is_leader,
    pods.status, coalesce(benched_until > fleet_q.clock(), false) as benched
  from fleet_q.pods
  left join fleet_q.leader_terms as term on term.pod_id = pods.id and term.ended_at is null
  where pods.status = 'live' and pods.leader_eligible
  order by coalesce(benched_until > fleet_q.clock(), false), pods.born_at, pods.id
  limit 1000`
