import type { Actor } from '../access/actor.ts'
import { writeAudit } from '../access/audit.sql.ts'
import { repeatOnConflict, type Database, type Sql } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import { pass } from '../kernel/failpoint.ts'
import {
  askToUndo,
  cancelSteps,
  findFollowers,
  forgetFailures,
  giveEventsBack,
  putInReady,
  putOutcomeAside,
  removeFromLater,
  removeFromReady,
} from './cancel.sql.ts'
import { findEndedSteps, findLiveSteps, type BulkFilter } from './queue.sql.ts'
import { getStep, statusOf } from './read.ts'
import type { StepStatus } from './step.ts'
import { answerParents, lockLetters } from './wake.sql.ts'

export interface Change {
  step_id: string
  status: StepStatus
  message: string
}

export interface BulkResult {
  matched: number
  changed: number
  dry_run: boolean
  sample: string[]
  more: boolean
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
        await writeAudit(tx, actor, stepId, { reason, claimed: row.claimed, followers: followers.length })
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
    await lockLetters(tx, followers, [])
    const gone = await cancelSome(tx, followers, 'what had submitted it was cancelled')
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
  const redriven = await database.begin(async (tx) => {
    const aside = await putOutcomeAside(tx, ids)
    if (aside.length === 0) return 0
    await pass('redrive.between')
    // Only a cancelled one can: and the look for it walks its lane to the end.
    const lying = aside.filter((step) => step.status === 'cancelled')
    if (lying.length > 0) {
      const cancelled = lying.map((step) => step.step_id)
      await removeFromReady(tx, [...new Set(lying.map((step) => step.lane_id))], cancelled)
      await removeFromLater(tx, cancelled)
    }
    const keys = aside.map((step) => step.step_id)
    await forgetFailures(tx, keys)
    await giveEventsBack(tx, keys)
    await putInReady(tx, aside)
    await note(tx, aside.length)
    await pass('redrive.before_commit')
    return aside.length
  })
  if (redriven > 0) await pass('redrive.after_commit')
  return redriven
}

const BATCH = 500
const SAMPLE_MAX = 20

/** Walks what fits the filter by key, a bounded batch at a time, and changes at most `limit` of it. */
async function inBatches(
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
  Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== null && value !== undefined))
