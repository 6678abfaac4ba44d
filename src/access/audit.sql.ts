import type { Sql } from '../db/connect.ts'
import type { Actor } from './actor.ts'

/** Goes into the transaction of the change itself: either both are there, or neither. */
export const writeAudit = (sql: Sql, actor: Actor, target: string | null, details: object) => sql`
  insert /* access.write_audit */ into fleet_q.audit (operation, target, who, role, ip, request_id, details)
  values (${actor.operation ?? 'unknown'}, ${target}, ${actor.who}, ${actor.role}, ${actor.ip ?? null},
    ${actor.requestId}, ${JSON.stringify(details)}::text::jsonb)`

export interface AuditRow {
  id: string
  at: Date
  operation: string
  target: string | null
  who: string
  role: string
  ip: string | null
  request_id: string | null
  details: Record<string, unknown>
}

export interface AuditFilter {
  operation: string | null
  target: string | null
  before: string | null
}

/** The newest first. */
export const listAudit = (sql: Sql, filter: AuditFilter, limit: number) => sql<AuditRow[]>`
  select /* access.list_audit */ id, at, operation, target, who, role, ip, request_id, details
  from fleet_q.audit
  where (${filter.operation}::text is null or operation = ${filter.operation})
    and (${filter.target}::text is null or target = ${filter.target})
    and (${filter.before}::bigint is null or id < ${filter.before}::bigint)
  order by id desc limit ${limit}`

export const forgetAudit = (sql: Sql, olderThanSeconds: number, limit: number) => sql<
  { forgotten: number }[]
>`
  select /* access.forget_audit */
    fleet_q.forget_audit(make_interval(secs => ${olderThanSeconds}), ${limit}) as forgotten`
