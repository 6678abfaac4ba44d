import { listAudit } from '../../access/audit.sql.ts'
import { issueToken, withdrawToken } from '../../access/issue-token.ts'
import { listTokens, type TokenRow } from '../../access/token.sql.ts'
import { decodeCursor, nextCursor } from '../../kernel/cursor.ts'
import type { Handlers } from '../server.ts'
import type { Door } from './door.ts'

type Mine = 'listTokens' | 'createToken' | 'revokeToken' | 'listAudit'

export const accessRoutes = ({ database }: Door): Pick<Handlers, Mine> => ({
  async listTokens({ query }) {
    const rows = await database.run((sql) => listTokens(sql, query.show === 'all', query.limit))
    return { body: { tokens: rows.map(shown) } }
  },

  async createToken({ body }, caller) {
    const { name, role, expires_in_seconds } = body
    const { row, token } = await issueToken(database, caller, {
      name,
      role,
      lastsSeconds: expires_in_seconds,
    })
    return { body: { ...shown(row), token } }
  },

  async revokeToken({ params }, caller) {
    const row = await withdrawToken(database, caller, Number(params.token_id))
    return {
      body: {
        ...shown(row),
        message: `Token ${row.id} (${row.name}) opens nothing any more; a pod that has just read its tokens takes up to three seconds to know.`,
      },
    }
  },

  async listAudit({ query }) {
    const filter = {
      operation: query.operation ?? null,
      target: query.target ?? null,
      before: decodeCursor(query.cursor),
    }
    const rows = await database.run((sql) => listAudit(sql, filter, query.limit))
    return {
      body: {
        entries: rows.map(({ id: _, at, ...row }) => ({ ...row, at: at.toISOString() })),
        next_cursor: nextCursor(rows, query.limit),
      },
    }
  },
})

const shown = (row: TokenRow) => ({
  token_id: String(row.id),
  name: row.name,
  role: row.role,
  created_at: row.created_at.toISOString(),
  created_by: row.created_by,
  expires_at: row.expires_at?.toISOString() ?? null,
  last_used_at: row.used_at?.toISOString() ?? null,
  revoked_at: row.revoked_at?.toISOString() ?? null,
})
