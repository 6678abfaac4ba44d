import type { Sql } from '../db/connect.ts'

export interface LogLine {
  stepId: string
  claimId: string
  line: number
  attempt: number
  level: string
  message: string
  data: string | null
}

export const insertLogs = (sql: Sql, lines: LogLine[]) => sql`
  insert /* step.log */ into fleet_q.logs (step_id, claim_id, line, attempt, at, level, message, data)
  select step_id, claim_id, line, attempt, fleet_q.clock(), level, message, data::jsonb
  from unnest(
    ${lines.map((l) => l.stepId)}::bigint[], ${lines.map((l) => l.claimId)}::bigint[],
    ${lines.map((l) => l.line)}::int[], ${lines.map((l) => l.attempt)}::smallint[],
    ${lines.map((l) => l.level)}::text[], ${lines.map((l) => l.message)}::text[], ${lines.map((l) => l.data)}::text[]
  ) as l (step_id, claim_id, line, attempt, level, message, data)
  on conflict do nothing`

export interface ProgressNote {
  stepId: string
  claimId: string
  percent: number
  message: string | null
}

/** Ordered by key, as every statement that writes several rows: two that wait for each other would deadlock. */
export const upsertProgress = (sql: Sql, notes: ProgressNote[]) => sql`
  insert /* step.note_progress */ into fleet_q.progress as p (step_id, claim_id, percent, message, at)
  select step_id, claim_id, percent, message, fleet_q.clock()
  from unnest(
    ${notes.map((n) => n.stepId)}::bigint[], ${notes.map((n) => n.claimId)}::bigint[],
    ${notes.map((n) => n.percent)}::real[], ${notes.map((n) => n.message)}::text[]
  ) as n (step_id, claim_id, percent, message)
  order by step_id
  on conflict (step_id) do update
  set claim_id = excluded.claim_id, percent = excluded.percent, message = excluded.message, at = excluded.at
  where excluded.claim_id >= p.claim_id`
