import type { Actor } from '../access/actor.ts'
import { writeAudit } from '../access/audit.sql.ts'
import type { Database } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import { given, type BulkResult } from '../step/bulk.ts'
import type { Change } from '../step/cancel.ts'
import { redrive, redriveStep } from '../step/redrive.ts'
import { parsePublicId } from '../step/step.ts'
import { findDeadLetter, listDeadLetters } from './recovery.sql.ts'

const BATCH = 500
const SAMPLE_MAX = 20

/** Gives a dead letter all its attempts again. */
export async function redriveLetter(
  database: Database,
  actor: Actor,
  stepId: string,
  onReady: () => void,
): Promise<Change> {
  const key = parsePublicId(stepId)
  const [letter] = key ? await database.run((sql) => findDeadLetter(sql, key.id)) : []
  if (!letter)
    throw new FleetError(
      'dead_letter_not_found',
      `There is no dead letter "${stepId.slice(0, 100)}". GET /admin/dead-letters lists them.`,
    )
  return redriveStep(database, actor, stepId, onReady)
}

export async function redriveLetters(
  database: Database,
  actor: Actor,
  filter: { reason?: string | undefined; type?: string | undefined },
  bounds: { dry_run: boolean; limit: number },
  onReady: () => void,
): Promise<BulkResult> {
  const { dry_run, limit } = bounds
  const result: BulkResult = { matched: 0, changed: 0, dry_run, sample: [], more: false }
  let before: string | null = null
  const next = (max: number) =>
    database.run((sql) =>
      listDeadLetters(sql, { reason: filter.reason ?? null, type: filter.type ?? null, before }, max),
    )
  while (result.matched < limit) {
    const rows = await next(Math.min(BATCH, limit - result.matched))
    if (rows.length === 0) break
    result.matched += rows.length
    const sample = rows.slice(0, SAMPLE_MAX).map((row) => row.step_id)
    result.sample.push(...sample.slice(0, SAMPLE_MAX - result.sample.length))
    before = rows.at(-1)?.id ?? before
    if (!dry_run)
      result.changed += await redrive(
        database,
        rows.map((row) => row.id),
        (tx, changed) => writeAudit(tx, actor, null, { filter: given(filter), changed, sample }),
      )
  }
  result.more = result.matched >= limit && (await next(1)).length > 0
  if (result.changed > 0) onReady()
  return result
}
