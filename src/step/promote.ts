import type { Database } from '../db/connect.ts'
import { pass } from '../kernel/failpoint.ts'
import { nextDueMs, promoteDue } from './promote.sql.ts'

const BATCH = 500
const BATCHES_MAX = 20

/** Moves what is due into its lane, in bounded batches; says how much, and in how long the next is due. */
export async function promote(database: Database): Promise<{ moved: number; nextMs: number | undefined }> {
  const [first] = await database.run(nextDueMs)
  const firstMs = first?.ms ?? undefined
  if (firstMs === undefined || firstMs > 0) return { moved: 0, nextMs: firstMs }
  let moved = 0
  for (let batch = 0; batch < BATCHES_MAX; batch++) {
    await pass('due.before')
    const rows = await database.run((sql) => promoteDue(sql, BATCH))
    await pass('due.after')
    moved += rows.length
    if (rows.length < BATCH) break
  }
  const [next] = await database.run(nextDueMs)
  return { moved, nextMs: next?.ms ?? undefined }
}
