import { repeatOnConflict, type Database } from '../db/connect.ts'
import { settle, type RefusedReport, type Report } from '../step/settle.sql.ts'
import { answerParents, answerWaits, lockLetters } from '../step/wake.sql.ts'

/** Whether these have to be handed in by settleExecutions. */
export const touchesWaits = (reports: readonly Report[]) =>
  reports.some((report) => report.waitsFor === 'answer' || (report.hasParent && report.outcome !== null))

export interface Settled {
  refused: RefusedReport[]
  /** Executions that may go on now. */
  woken: number
}

/**
 * Hands in executions that go to sleep over an event or another step, and steps that others wait for. Both sides lock the
 * letter of whoever waits before they look: the one that comes second sees the other.
 */
export const settleExecutions = (
  database: Database,
  podId: string,
  reports: Report[],
  endedClaims: string[],
): Promise<Settled> => {
  const waiting = reports.filter(({ waitsFor }) => waitsFor === 'answer').map(({ stepId }) => stepId)
  const ended = reports
    .filter(({ hasParent, outcome }) => hasParent && outcome !== null)
    .map(({ stepId }) => stepId)
  return repeatOnConflict(() =>
    database.begin(async (tx) => {
      await lockLetters(tx, waiting, ended)
      const refused = await settle(tx, podId, reports, endedClaims)
      const answered = waiting.length > 0 ? await answerWaits(tx, waiting) : []
      const [parents] = ended.length > 0 ? await answerParents(tx, ended) : []
      return { refused: [...refused], woken: answered.length + (parents?.woken ?? 0) }
    }),
  )
}
