import { repeatOnConflict, type Database } from '../db/connect.ts'
import { pass } from '../kernel/failpoint.ts'
import { settle, type RefusedReport, type Report } from '../step/settle.sql.ts'
import { answerParents, answerWaits, lockLetters } from '../step/wake.sql.ts'

/** Whether these have to be handed in by settleExecutions. */
export const touchesWaits = (reports: readonly Report[]) =>
  reports.some((report) => report.waitsFor === 'answer' || (report.hasParent && report.outcome !== null))

/**
 * Hands in executions that go to sleep over an event or another step, and steps that others wait for. Both sides lock the
 * letter of whoever waits before they look: the one that comes second sees the other.
 */
export const settleExecutions = (
  database: Database,
  podId: string,
  reports: Report[],
  endedClaims: string[],
): Promise<RefusedReport[]> => {
  const waiting = reports.filter(({ waitsFor }) => waitsFor === 'answer').map(({ stepId }) => stepId)
  const ended = reports
    .filter(({ hasParent, outcome }) => hasParent && outcome !== null)
    .map(({ stepId }) => stepId)
  return repeatOnConflict(() =>
    database.begin(async (tx) => {
      await lockLetters(tx, waiting, ended)
      await pass('waits.before_settle')
      const refused = await settle(tx, podId, reports, endedClaims)
      await pass('waits.before_answer')
      await answerWaits(tx, waiting)
      await answerParents(tx, ended)
      await pass('waits.before_commit')
      return [...refused]
    }),
  )
}
