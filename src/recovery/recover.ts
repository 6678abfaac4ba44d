import type { Database } from '../db/connect.ts'
import { pass } from '../kernel/failpoint.ts'
import { answerRequest, findRequests, findWork } from './recovery.sql.ts'
import { foreseeCycle, runCycle, type CycleSummary } from './run-cycle.ts'

export interface RecoveryOptions {
  database: Database
  podId: string
  onCycle(summary: CycleSummary): void
}

const REQUESTS_MAX = 20
/** How soon to look again for a claim that a settle in flight kept from us. */
const LOOK_AGAIN_MS = 500

/**
 * The leader's chore: looks whether anybody is dead or anything orphaned, runs a cycle if so, and says when to look
 * next: at the very moment when the next silent pod passes its threshold.
 */
export async function recover(
  { database, podId, onCycle }: RecoveryOptions,
  term: string,
): Promise<number | undefined> {
  const [work] = await database.run((sql) => findWork(sql, podId))
  if (!work) return undefined
  if (work.requested) await answerRequests({ database, podId, onCycle }, term)
  if (!work.orphaned && (work.due_ms === null || work.due_ms > 0)) return work.due_ms ?? undefined
  const summary = await runCycle({ database, podId, term })
  onCycle(summary)
  return summary.orphaned === 0 && work.orphaned
    ? LOOK_AGAIN_MS
    : (work.due_ms ?? 0) > 0
      ? (work.due_ms ?? undefined)
      : undefined
}

async function answerRequests({ database, podId, onCycle }: RecoveryOptions, term: string) {
  for (const { id, options } of await database.run((sql) => findRequests(sql, REQUESTS_MAX))) {
    if (options['dry_run'] === true) await reply(id, await foreseeCycle(database, podId))
    else {
      const summary = await runCycle({ database, podId, term, forced: true })
      onCycle(summary)
      await pass('recovery.before_answer')
      await reply(id, summary)
    }
  }

  function reply(id: string, answer: object) {
    return database.run((sql) => answerRequest(sql, id, JSON.stringify(answer)))
  }
}
