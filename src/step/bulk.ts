import type { Actor } from '../access/actor.ts'
import { writeAudit } from '../access/audit.sql.ts'
import { repeatOnConflict, type Database } from '../db/connect.ts'
import { cancelWithFollowers } from './cancel.ts'
import { findEndedSteps, findLiveSteps, type BulkFilter } from './queue.sql.ts'
import { redrive } from './redrive.ts'

export interface BulkResult {
  matched: number
  changed: number
  dry_run: boolean
  sample: string[]
  more: boolean
}

const BATCH = 500
const SAMPLE_MAX = 20

/** Walks what fits the filter by key, a bounded batch at a time, and changes at most `limit` of it. */
export async function inBatches(
  find: (after: string, limit: number) => Promise<{ id: string; step_id: string }[]>,
  change: (ids: string[], sample: string[]) => Promise<number>,
  { dry_run, limit }: { dry_run: boolean; limit: number },
): Promise<BulkResult> {
  const result: BulkResult = { matched: 0, changed: 0, dry_run, sample: [], more: false }
  let after = '0'
  while (result.matched < limit) {
    const rows = await find(after, Math.min(BATCH, limit - result.matched))
    if (rows.length === 0) return result
    result.matched += rows.length
    const named = rows.slice(0, SAMPLE_MAX).map((row) => row.step_id)
    result.sample.push(...named.slice(0, SAMPLE_MAX - result.sample.length))
    after = rows.at(-1)?.id ?? after
    if (!dry_run)
      result.changed += await change(
        rows.map((row) => row.id),
        named,
      )
  }
  result.more = (await find(after, 1)).length > 0
  return result
}

export const cancelByFilter = (
  database: Database,
  actor: Actor,
  filter: BulkFilter,
  bounds: { dry_run: boolean; limit: number },
  onCancelled: (ids: string[]) => void,
) =>
  inBatches(
    (after, limit) => database.run((sql) => findLiveSteps(sql, filter, after, limit)),
    async (ids, sample) => {
      const cancelled = await repeatOnConflict(() =>
        database.begin(async (tx) => {
          const rows = await cancelWithFollowers(tx, ids, 'cancelled with others by a filter')
          if (rows.length > 0)
            await writeAudit(tx, actor, null, { filter: given(filter), changed: rows.length, sample })
          return rows
        }),
      )
      if (cancelled.length > 0) onCancelled(cancelled.map((step) => step.step_id))
      return cancelled.length
    },
    bounds,
  )

export async function redriveByFilter(
  database: Database,
  actor: Actor,
  filter: BulkFilter,
  bounds: { dry_run: boolean; limit: number },
  onReady: () => void,
) {
  const result = await inBatches(
    (after, limit) => database.run((sql) => findEndedSteps(sql, filter, after, limit)),
    (ids, sample) =>
      redrive(database, ids, (tx, changed) =>
        writeAudit(tx, actor, null, { filter: given(filter), changed, sample }),
      ),
    bounds,
  )
  if (result.changed > 0) onReady()
  return result
}

/** Without what was not asked for. */
export const given = (filter: object) =>
  Object.fromEntries(Object.entries(filter).filter(([, value]) => (value ?? false) !== false))
