import type { Database } from '../db/connect.ts'
import { forgetAudit } from './audit.sql.ts'

const LINES_PER_ROUND = 1000

/** One round, bounded; answers whether there may be more. */
export async function forgetOldAudit(database: Database, days: number): Promise<boolean> {
  const [row] = await database.run((sql) => forgetAudit(sql, days * 86_400, LINES_PER_ROUND))
  return row?.forgotten === LINES_PER_ROUND
}
