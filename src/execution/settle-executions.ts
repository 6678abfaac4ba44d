import { repeatOnConflict, type Database } from '../db/connect.ts'
import { pass } from '../kernel/failpoint.ts'
import { settle, type RefusedReport, type Report } from '../step/settle.sql.ts'
import { answerParents, answerWaits, findToldToUndo, lockLetters } from '../step/wake.sql.ts'

/** Whether these have to be handed in by settleExecutions. */
export const touchesWaits = (reports: readonly Report[]) =>
  reports.some(
    ({ waitsFor, hasParent, hasUndos, outcome }) =>
      waitsFor === 'answer' || hasUndos || (hasParent && outcome !== null),
  )

export interface Settled {
  refused: RefusedReport[]
  /** Executions that may go on now. */
  woken: number
}

/**
 * Hands in executions that go to sleep over an event or another step, and steps that others wait for. Both sides lock the
 * letter of whoever waits before they look: the one that comes second sees the other. A cancel does the same: what it
 * asked to be undone neither ends nor sleeps, whatever its attempt knew.
 */
export const settleExecutions = (
  database: Database,
  podId: string,
  reports: Report[],
  endedClaims: string[],
): Promise<Settled> => {
  const waiting = idsOf(reports, ({ waitsFor }) => waitsFor === 'answer')
  const ended = idsOf(reports, ({ hasParent, outcome }) => hasParent === true && outcome !== null)
  const undoable = idsOf(reports, ({ hasUndos }) => hasUndos === true)
  return repeatOnConflict(() =>
    database.begin(async (tx) => {
      await lockLetters(tx, [...waiting, ...undoable], ended)
      await pass('waits.before_settle')
      const rows = undoable.length === 0 ? [] : await findToldToUndo(tx, undoable)
      const told = new Set(rows.map((row) => row.step_id))
      const settled = reports.map((report) => (told.has(report.stepId) ? toBeUndone(report) : report))
      const refused = await settle(tx, podId, settled, endedClaims)
      await pass('waits.before_answer')
      const answered = waiting.length > 0 ? await answerWaits(tx, waiting) : []
      const [parents] = ended.length > 0 ? await answerParents(tx, ended) : []
      await pass('waits.before_commit')
      return { refused: [...refused], woken: answered.length + told.size + (parents?.woken ?? 0) }
    }),
  )
}

const idsOf = (reports: Report[], fits: (report: Report) => boolean) =>
  reports.filter(fits).map(({ stepId }) => stepId)

/** Its next attempt undoes what it did, and ends it. */
const toBeUndone = ({ waitsFor: _, ...report }: Report): Report => ({
  ...report,
  outcome: null,
  ended: 'suspended',
  result: null,
  error: null,
  delayMs: 0,
  nextAttempt: 1,
})
