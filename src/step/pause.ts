import type { Database } from '../db/connect.ts'
import { sqlState } from '../db/failure.ts'
import { pass } from '../kernel/failpoint.ts'
import { addPause, waitForClaims, type PauseRow, type PauseWish } from './queue.sql.ts'

/** Claims take milliseconds. Longer, and those behind us in the line would be held up. */
const PATIENCE_MS = 1000
const LOCK_NOT_TO_BE_HAD = '55P03'

/** Lets no step of a type, a key, or both be claimed. When this answers, every claim knows it. */
export async function pause(database: Database, wish: PauseWish): Promise<PauseRow | undefined> {
  const [row] = await database.run((sql) => addPause(sql, wish))
  await pass('pause.between')
  await claimsUnderWay(database)
  return row
}

/**
 * Fulfilled when every claim has ended that had begun before: what was committed until now holds for all others. Where
 * somebody reads the table for long (a dump takes such a lock) it gives up waiting; then a claim that had begun before
 * may still come, within the milliseconds that a claim takes.
 */
export async function claimsUnderWay(database: Database): Promise<void> {
  try {
    await database.begin((tx) => waitForClaims(tx, PATIENCE_MS))
  } catch (error) {
    if (sqlState(error) !== LOCK_NOT_TO_BE_HAD) throw error
  }
}
