import type { Database } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import type { Actor } from './actor.ts'
import { writeAudit } from './audit.sql.ts'
import type { TokenRole } from './role.ts'
import { findToken, insertToken, revokeToken, TOKENS_MAX, type TokenRow } from './token.sql.ts'
import { digestOf, newToken } from './token.ts'

export interface TokenWish {
  name: string
  role: TokenRole
  /** Null: it has no end. */
  lastsSeconds: number | null
}

/** The token itself leaves this function once, and is stored nowhere. */
export async function issueToken(
  database: Database,
  actor: Actor,
  { name, role, lastsSeconds }: TokenWish,
): Promise<{ row: TokenRow; token: string }> {
  const token = newToken()
  const wanted = { name, role, lastsSeconds, digest: digestOf(token), createdBy: actor.who }
  return database.begin(async (tx) => {
    const [row] = await insertToken(tx, wanted)
    if (!row)
      throw new FleetError(
        'wrong_state',
        `There are ${TOKENS_MAX} tokens already. Revoke those that are not used: GET /admin/tokens shows when they last were.`,
      )
    await writeAudit(tx, actor, `token ${row.id}`, { name, role, expires_at: row.expires_at })
    return { row, token }
  })
}

export async function withdrawToken(database: Database, actor: Actor, id: number): Promise<TokenRow> {
  return database.begin(async (tx) => {
    const [row] = await revokeToken(tx, id)
    if (!row) {
      const [there] = await findToken(tx, id)
      throw there
        ? new FleetError('wrong_state', `Token ${id} (${there.name}) is revoked already.`)
        : new FleetError('token_not_found', `There is no token ${id}. GET /admin/tokens lists them.`)
    }
    await writeAudit(tx, actor, `token ${id}`, { name: row.name, role: row.role })
    return row
  })
}
