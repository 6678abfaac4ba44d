import type { Actor } from '../access/actor.ts'
import { writeAudit } from '../access/audit.sql.ts'
import { repeatOnConflict, type Database, type Sql } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import { pass } from '../kernel/failpoint.ts'
import { askToUndo, CANCELLED_WITH, cancelSteps, findFollowers } from './cancel.sql.ts'
import { getStep, statusOf } from './read.ts'
import type { StepStatus } from './step.ts'
import { answerParents, lockLetters } from './wake.sql.ts'

export interface Change {
  step_id: string
  status: StepStatus
  message: string
}

/** Pods that hold a cancelled step are told by `onCancelled`; those that do not hear it look at each heartbeat. */
export async function cancelStep(
  database: Database,
  actor: Actor,
  stepId: string,
  reason: string,
  onCancelled: (ids: string[]) => void,
): Promise<Change> {
  const step = await database.run((sql) => getStep(sql, stepId))
  await pass('cancel.before')
  const cancelled = await repeatOnConflict(() =>
    database.begin(async (tx) => {
      const [row, ...followers] = await cancelWithFollowers(tx, [step.id], reason)
      if (row)
        await writeAudit(tx, actor, stepId, {
          reason,
          claimed: row.claimed,
          ...(followers.length > 0 && { followers: followers.length }),
        })
      return row && { ...row, followers }
    }),
  )
  await pass('cancel.after')
  if (!cancelled) {
    const now = await database.run((sql) => getStep(sql, stepId))
    throw new FleetError(
      'wrong_state',
      `Step ${stepId} is ${statusOf(now)} already; only a step without an outcome can be cancelled.`,
    )
  }
  // Also where no pod had claimed it: an exchange that began before may be taking it at this moment.
  onCancelled([step.id, ...cancelled.followers.map((follower) => follower.step_id)])
  return {
    step_id: stepId,
    status: 'cancelled',
    message: cancelled.undoing
      ? `Step ${stepId} is cancelled: what it has done is being undone, and that ends it.`
      : cancelled.claimed
        ? `Step ${stepId} is cancelled; ${step.pod ?? 'the pod that holds it'} is told to abort its handler.`
        : `Step ${stepId} is cancelled; no pod had claimed it.`,
  }
}

/** With what it has submitted, unless that is detached; whoever waits for one of them has its answer. */
export async function cancelWithFollowers(tx: Sql, stepIds: string[], reason: string): Promise<Cancelled[]> {
  // Whoever submits under one of them locks its letter too: it is seen here, or it sees the outcome.
  await lockLetters(tx, stepIds, stepIds)
  const cancelled = await cancelSome(tx, stepIds, reason)
  for (let fresh = idsOf(cancelled); fresh.length > 0;) {
    const followers = (await findFollowers(tx, fresh)).map(({ id }) => id)
    if (followers.length === 0) break
    await lockLetters(tx, followers, [])
    const gone = await cancelSome(tx, followers, CANCELLED_WITH)
    cancelled.push(...gone)
    fresh = idsOf(gone)
  }
  if (cancelled.length > 0) await answerParents(tx, idsOf(cancelled))
  return cancelled
}

interface Cancelled {
  step_id: string
  claimed: boolean
  /** It has its outcome when that is done. */
  undoing: boolean
}

async function cancelSome(tx: Sql, stepIds: string[], reason: string): Promise<Cancelled[]> {
  const undoing = new Set(idsOf(await askToUndo(tx, stepIds, reason)))
  const others = stepIds.filter((id) => !undoing.has(id))
  const cancelled = others.length > 0 ? await cancelSteps(tx, others, reason) : []
  return [
    ...cancelled.map((row) => ({ ...row, undoing: false })),
    ...[...undoing].map((step_id) => ({ step_id, claimed: false, undoing: true })),
  ]
}

const idsOf = (rows: readonly { step_id: string }[]) => rows.map((row) => row.step_id)
