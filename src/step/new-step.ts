import { FleetError } from '../errors.ts'
import { newSalt, type StepWish } from './step.ts'
import type { NewStep } from './submit.sql.ts'

/** As what a step is submitted beyond itself. */
export interface As {
  parent?: Parent
  /** The id that its client chose for it. Where that is taken, it is an error: name_taken. */
  name?: string
  /** The key of the execution whose input it has, as it was or edited. */
  rerunOf?: string
}

/** The execution that submits steps. Where its claim does not stand any more, it submits nothing. */
export interface Parent {
  id: string
  claimId: string
  detached: boolean
}

/** A wish as it is written: validated, its lane known. */
export function toNewStep(wish: StepWish, laneId: number | undefined, parent?: Parent): NewStep {
  if (laneId === undefined) throw new FleetError('internal_error', `the lane of ${wish.type} was not learned`)
  return {
    laneId,
    salt: newSalt(),
    maxRetries: wish.max_retries,
    timeoutMs: wish.timeout_seconds === undefined ? null : Math.round(wish.timeout_seconds * 1000),
    runAt: wish.run_at ?? null,
    delayMs: wish.delay_seconds === undefined ? null : wish.delay_seconds * 1000,
    expiresAt: wish.expires_at ?? null,
    args: JSON.stringify(wish.args),
    metadata: wish.metadata === undefined ? null : JSON.stringify(wish.metadata),
    retry: wish.retry === undefined ? null : JSON.stringify(wish.retry),
    tags: wish.tags === undefined ? null : JSON.stringify(wish.tags),
    parentId: parent?.id ?? null,
    detached: parent?.detached ?? false,
  }
}
