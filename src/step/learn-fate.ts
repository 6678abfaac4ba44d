import type { Database, Sql } from '../db/connect.ts'
import { isUnavailable } from '../db/failure.ts'
import { lockClaim } from './transact.sql.ts'

const ASK_MS = 10_000
const ASK_AGAIN_MS = 250

/**
 * Whether a transaction that was cut in its commit is committed. Asked until the database answers: an attempt that is
 * handed in as failed because nobody could be asked stands beside the outcome that it had (seen once in a million steps
 * under 518 faults).
 */
export async function learnFate(
  database: Pick<Database, 'begin'>,
  claimId: string,
  limitMs: number,
  isThere: (tx: Sql) => Promise<boolean>,
): Promise<boolean> {
  const until = performance.now() + limitMs
  for (;;)
    try {
      return await database.begin(async (tx) => {
        // Whoever locks the claim row has waited for the end of the transaction that wrote under it.
        await lockClaim(tx, claimId)
        return isThere(tx)
      }, ASK_MS)
    } catch (error) {
      if (!isUnavailable(error) || performance.now() > until) throw error
      await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS))
    }
}
