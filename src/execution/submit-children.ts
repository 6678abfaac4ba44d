import { z } from 'zod'
import { FleetError } from '../errors.ts'
import { childKey } from '../step/child-key.ts'
import { NonRetryableError } from '../step/handler.ts'
import { SubmitStep } from '../step/step.schema.ts'
import type { Submitter } from '../step/submit.ts'
import { Misfit } from './memory.ts'
import type { ExecutionParts } from './open-execution.ts'
import { patiently } from './patiently.ts'

/** As many as a batch at the door. */
const CHILDREN_MAX = 1000

const Wishes = z
  .array(SubmitStep)
  .max(
    CHILDREN_MAX,
    `${CHILDREN_MAX} at most: submit them in several places, or let the children submit more`,
  )

/**
 * The place in the execution is the key: an attempt that died between its children and their checkpoint finds them again.
 * And only under a claim that stands: a pod that was declared dead submits nothing.
 */
export const createSubmitChildren =
  (submit: Submitter['submit']): ExecutionParts['submitChildren'] =>
  async (parent, { name, number }, wishes) => {
    const parsed = Wishes.safeParse(wishes.map(({ detached: _, ...wish }) => ({ args: {}, ...wish })))
    if (!parsed.success)
      throw new NonRetryableError(
        `ctx.submit("${name}"): ${parsed.error.issues
          // Of one alone, its place in the list says nothing.
          .map(({ path, message }) =>
            `${path
              .slice(wishes.length === 1 ? 1 : 0)
              .map(String)
              .join('.')} ${message}`.trim(),
          )
          .join('; ')}`,
      )
    const key = childKey(parent.id, { name, number })
    const detached = wishes.some((wish) => wish.detached)
    const { stepIds } = await patiently(() =>
      submit(parsed.data, key, { parent: { ...parent, detached } }),
    ).catch((error: unknown) => {
      if (!(error instanceof FleetError) || error.code !== 'idempotency_conflict') throw error
      throw new Misfit(
        `the code submits something else at "${name}" than it did in an attempt that ended before that was remembered`,
      )
    })
    if (stepIds.length !== wishes.length)
      throw new FleetError('internal_error', 'the children were not submitted')
    return stepIds
  }
