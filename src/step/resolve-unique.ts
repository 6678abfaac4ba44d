import type { Sql } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import { cancelWithFollowers } from './cancel.ts'
import { findStepIds } from './read.sql.ts'
import type { StepWish } from './step.ts'
import { takeUniqueKey } from './submit.sql.ts'

/** One live step a key: who has it, and what that means for a new one. */

type Unique = NonNullable<StepWish['unique']>

/** In one order everywhere: two batches that want the same keys crosswise would deadlock. */
export const uniqueKeysInOrder = (wishes: StepWish[]): [number, Unique][] =>
  wishes
    .flatMap(({ unique }, i): [number, Unique][] => (unique ? [[i, unique]] : []))
    .toSorted(([, a], [, b]) => (a.key < b.key ? -1 : 1))

/** One live step a key: two of one batch would both be new. */
export function refuseTwins(wishes: StepWish[]) {
  const seen = new Set<string>()
  for (const [i, { unique }] of wishes.entries()) {
    if (!unique) continue
    if (seen.has(unique.key))
      throw new FleetError(
        'invalid_input',
        `The unique key "${unique.key}" stands twice in this batch. Nothing was stored.`,
        {
          issues: [{ at: `steps.${i}.unique`, message: 'is the unique key of another step in this batch' }],
        },
      )
    seen.add(unique.key)
  }
}

/** Undefined when the key is free for a new step, else the one that lives under it and is to be given back. */
export async function resolveUnique(
  tx: Sql,
  unique: Unique,
): Promise<{ stepId: string } | 'replaced' | undefined> {
  const [holder] = await takeUniqueKey(tx, unique.key)
  if (!holder?.live) return undefined
  const [existing] = await findStepIds(tx, [holder.step_id])
  if (unique.on_conflict === 'return') return existing && { stepId: existing.step_id }
  if (unique.on_conflict === 'reject')
    throw new FleetError(
      'unique_conflict',
      `Step ${existing?.step_id ?? ''} with the unique key "${unique.key}" has not ended yet. Wait for it, cancel it, or submit with on_conflict "return" or "replace".`,
    )
  await cancelWithFollowers(tx, [holder.step_id], 'replaced by a newer step with the same unique key')
  return 'replaced'
}
