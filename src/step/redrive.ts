import type { Actor } from '../access/actor.ts'
import { writeAudit } from '../access/audit.sql.ts'
import { repeatOnConflict, type Database, type Sql } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import { pass } from '../kernel/failpoint.ts'
import type { Change } from './cancel.ts'
import {
  findCancelledWith,
  putInReady,
  putOutcomeAside,
  removeFromLater,
  removeFromReady,
  takeAnswersBack,
} from './cancel.sql.ts'
import { dropChildren } from './put-aside.ts'
import { putFailuresAside } from './put-aside.sql.ts'
import { getStep, statusOf } from './read.ts'

/** Gives a step that ended without success all its attempts again. */
export async function redriveStep(
  database: Database,
  actor: Actor,
  stepId: string,
  onReady: () => void,
): Promise<Change> {
  const step = await database.run((sql) => getStep(sql, stepId))
  const changed = await redrive(database, [step.id], (tx) =>
    writeAudit(tx, actor, stepId, { was: statusOf(step) }),
  )
  if (changed === 0) {
    const now = await database.run((sql) => getStep(sql, stepId))
    const status = statusOf(now)
    throw new FleetError(
      'wrong_state',
      now.outcome !== null && now.outcome !== 'completed'
        ? `Step ${stepId} is ${status}, but a pod has not let go of it yet. Try again in a moment.`
        : `Step ${stepId} is ${status}; only a step that failed, was cancelled or was skipped can be tried again.`,
    )
  }
  onReady()
  return {
    step_id: stepId,
    status: 'pending',
    message: `Step ${stepId} is ready again, with all its attempts.`,
  }
}

/**
 * In one transaction: the outcome is put aside, what may still lie in a tray is taken out, the step goes in, and who
 * wished it is written down.
 */
export async function redrive(
  database: Database,
  ids: string[],
  note: (tx: Sql, changed: number) => Promise<unknown>,
): Promise<number> {
  // Whoever cancels at the same time locks the same rows, and may do so crosswise.
  const redriven = await repeatOnConflict(() =>
    database.begin(async (tx) => {
      const aside = await takeOutcomes(tx, ids)
      if (aside.length === 0) return 0
      await putBack(tx, aside)
      await note(tx, aside.length)
      await pass('redrive.before_commit')
      return aside.length
    }),
  )
  if (redriven > 0) await pass('redrive.after_commit')
  return redriven
}

/** With what was cancelled because they were. `forgets`: they begin at what failed. */
export async function putBack(
  tx: Sql,
  steps: readonly { step_id: string; lane_id: number }[],
  forgets = true,
): Promise<void> {
  for (let next = steps; next.length > 0;) {
    const ids = next.map((step) => step.step_id)
    if (forgets || next !== steps) await dropChildren(tx, await putFailuresAside(tx, ids))
    await putInReady(tx, [...next])
    const followers = (await findCancelledWith(tx, ids)).map(({ id }) => id)
    next = followers.length === 0 ? [] : await takeOutcomes(tx, followers)
  }
}

/** Steps without their outcomes, and in no tray any more. */
export async function takeOutcomes(tx: Sql, ids: string[]) {
  const aside = await putOutcomeAside(tx, ids)
  if (aside.length === 0) return aside
  await takeAnswersBack(tx, ids)
  await pass('redrive.between')
  // Only a cancelled one can: and the look for it walks its lane to the end.
  const lying = aside.filter((step) => step.status === 'cancelled')
  if (lying.length > 0) {
    const keys = lying.map((step) => step.step_id)
    await removeFromReady(tx, [...new Set(lying.map((step) => step.lane_id))], keys)
    await removeFromLater(tx, keys)
  }
  return aside
}
