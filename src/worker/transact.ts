import type { Database, Sql } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import { pass } from '../kernel/failpoint.ts'
import { type ClaimedStep } from '../step/claim.sql.ts'
import { learnFate } from '../step/learn-fate.ts'
import { answerParents, findToldToUndo, lockLetters } from '../step/wake.sql.ts'
import { settle, type Report } from '../step/settle.sql.ts'
import { boundRest, wasCompleted } from '../step/transact.sql.ts'

/** The transaction of one handler, which commits together with the settle of its step. */
export interface StepTransaction {
  open(): Promise<Sql>
  readonly opened: boolean
  /** Settles inside and commits. False: the claim is gone or the step has its outcome; all was rolled back. */
  commit(report: Report): Promise<boolean>
  rollback(): Promise<void>
}

class RolledBack extends Error {}

export function stepTransaction(
  database: Pick<Database, 'begin'>,
  podId: string,
  step: ClaimedStep,
  limitMs: number,
): StepTransaction {
  let opened: Promise<Sql> | undefined
  let ended: Promise<void> = Promise.resolve()
  let finish: (report: Report | undefined) => void = () => {}

  function open(): Promise<Sql> {
    opened ??= new Promise<Sql>((give, refuse) => {
      const wish = new Promise<Report | undefined>((resolve) => {
        finish = resolve
      })
      ended = database.begin(async (tx) => {
        give(tx)
        const report = await wish
        if (!report) throw new RolledBack()
        await pass('transaction.before_settle')
        const its = [step.step_id]
        if (step.has_parent || report.hasUndos)
          await lockLetters(tx, report.hasUndos ? its : [], step.has_parent ? its : [])
        // It was cancelled meanwhile: its next attempt undoes what it did, and what it writes here is undone now.
        if (report.hasUndos && (await findToldToUndo(tx, its)).length > 0) throw new RolledBack()
        const [, refused] = await Promise.all([
          boundRest(tx),
          settle(tx, podId, [{ ...report, mayStand: true }], []),
        ])
        if (refused.length > 0) throw new RolledBack()
        if (step.has_parent) await answerParents(tx, [step.step_id])
        await pass('transaction.before_commit')
      }, limitMs)
      ended.catch(refuse)
    })
    return opened
  }

  const wasCommitted = () =>
    learnFate(
      database,
      step.claim_id,
      limitMs,
      async (tx) => (await wasCompleted(tx, step.claim_id, step.step_id)).length > 0,
    )

  return {
    open,
    get opened() {
      return opened !== undefined
    },
    async commit(report) {
      finish(report)
      try {
        await ended
        await pass('transaction.after_commit')
        return true
      } catch (error) {
        if (error instanceof RolledBack) return false
        // Cut in the commit: both may have happened.
        if (await wasCommitted()) return true
        throw new FleetError('database_unavailable', 'the transaction of this step was not committed', {
          cause: error,
        })
      }
    },
    async rollback() {
      finish(undefined)
      await ended.catch(() => {})
    },
  }
}
