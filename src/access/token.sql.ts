import type { Sql } from '../db/connect.ts'
import type { TokenRole } from './role.ts'

/** So many fit a pod's memory; whoever needs more wants something else. */
export const TOKENS_MAX = 1000

export interface NewToken {
  name: string
  role: TokenRole
  digest: Buffer
  createdBy: string
  lastsSeconds: number | null
}

export interface TokenRow {
  id: number
  name: string
  role: TokenRole
  created_at: Date
  created_by: string
  expires_at: Date | null
  used_at: Date | null
  revoked_at: Date | null
}

/** No row: there are as many as may be. */
export const insertToken = (sql: Sql, token: NewToken) => sql<TokenRow[]>`
  insert /* access.insert_token */ into fleet_q.tokens (name, role, digest, created_by, expires_at)
  select ${token.name}, ${token.role}::fleet_q.token_role, ${token.digest}::bytea, ${token.createdBy},
    fleet_q.clock() + make_interval(secs => ${token.lastsSeconds}::float8)
  where (
    select count(*) from fleet_q.tokens
    where revoked_at is null and (expires_at is null or expires_at > fleet_q.clock())) < ${TOKENS_MAX}
  returning id, name, role, created_at, created_by, expires_at, used_at, revoked_at`

/** Those that are good, the newest first; with `all` those that were, too. */
export const listTokens = (sql: Sql, all: boolean, limit: number) => sql<TokenRow[]>`
  select /* access.list_tokens */ id, name, role, created_at, created_by, expires_at, used_at, revoked_at
  from fleet_q.tokens
  where ${all} or (revoked_at is null and (expires_at is null or expires_at > fleet_q.clock()))
  order by id desc limit ${limit}`

/** No row: there is none of this number, or it was revoked already. */
export const revokeToken = (sql: Sql, id: number) => sql<TokenRow[]>`
  update /* access.revoke_token */ fleet_q.tokens set revoked_at = fleet_q.clock()
  where id = ${id} and revoked_at is null
  returning id, name, role, created_at, created_by, expires_at, used_at, revoked_at`

export const findToken = (sql: Sql, id: number) => sql<TokenRow[]>`
  select /* access.find_token */ id, name, role, created_at, created_by, expires_at, used_at, revoked_at
  from fleet_q.tokens where id = ${id}`

export interface GoodToken {
  id: number
  name: string
  role: TokenRole
  digest: Buffer
  /** Null: it has no end. By the database's clock, as all time. */
  left_ms: number | null
}

/** What a pod keeps in memory. */
export const goodTokens = (sql: Sql) => sql<GoodToken[]>`
  select /* access.good_tokens */ id, name, role, digest,
    extract(epoch from expires_at - fleet_q.clock())::float8 * 1000 as left_ms
  from fleet_q.tokens
  where revoked_at is null and (expires_at is null or expires_at > fleet_q.clock())
  order by id limit ${TOKENS_MAX}`

/** Whether one was ever made, good or not. */
export const hadTokens = (sql: Sql) => sql<{ had: boolean }[]>`
  select /* access.had_tokens */ exists (select from fleet_q.tokens) as had`

export const noteUse = (sql: Sql, id: number) => sql`
  update /* access.note_use */ fleet_q.tokens set used_at = fleet_q.clock()
  where id = ${id} and (used_at is null or used_at < fleet_q.clock() - interval '50 seconds')`
