import type { Actor } from '../access/actor.ts'
import { writeAudit } from '../access/audit.sql.ts'
import { repeatOnConflict, type Database } from '../db/connect.ts'
import { given, inBatches, type BulkResult } from '../step/bulk.ts'
import type { BulkFilter } from '../step/queue.sql.ts'
import { putBack } from '../step/redrive.ts'
import { lockLetters } from '../step/wake.sql.ts'
import { findParked, takeParked } from './send-back.sql.ts'

/** After a deploy that did not fit, and the one that brings the code back: all that it has parked goes on. */
export async function retryParked(
  database: Database,
  actor: Actor,
  filter: BulkFilter,
  bounds: { dry_run: boolean; limit: number },
  onReady: () => void,
): Promise<BulkResult> {
  const result = await inBatches(
    (after, limit) => database.run((sql) => findParked(sql, filter, after, limit)),
    (ids, sample) =>
      repeatOnConflict(() =>
        database.begin(async (tx) => {
          await lockLetters(tx, ids, [])
          const taken = await takeParked(tx, ids)
          if (taken.length === 0) return 0
          // Nothing has failed for good: each goes on where it stood.
          await putBack(tx, taken, false)
          const wished = given({ ...filter, status: null })
          await writeAudit(tx, actor, null, { filter: wished, changed: taken.length, sample })
          return taken.length
        }),
      ),
    bounds,
  )
  if (result.changed > 0) onReady()
  return result
}
