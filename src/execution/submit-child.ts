import { FleetError } from '../errors.ts'
import { childKey } from '../step/child-key.ts'
import type { ChildWish } from '../step/durable.ts'
import { NonRetryableError } from '../step/handler.ts'
import { SubmitStep } from '../step/step.schema.ts'
import type { Submitter } from '../step/submit.ts'
import type { ExecutionParts } from './open-execution.ts'

/**
 * The place in the execution is the key: an attempt that died between a child and its checkpoint finds the child again.
 * And only under a claim that stands: a pod that was declared dead submits nothing.
 */
export const createChildren =
  (submit: Submitter['submit']): ExecutionParts['submitChild'] =>
  async (parent, { name, number }, { detached = false, ...wish }: ChildWish) => {
    const parsed = SubmitStep.safeParse({ args: {}, ...wish })
    if (!parsed.success)
      throw new NonRetryableError(
        `ctx.submit("${name}"): ${parsed.error.issues.map(({ path, message }) => `${path.map(String).join('.')} ${message}`).join('; ')}`,
      )
    const key = childKey(parent.id, { name, number })
    const { stepIds } = await submit([parsed.data], key, { parent: { ...parent, detached } })
    const [stepId] = stepIds
    if (stepId === undefined) throw new FleetError('internal_error', 'the child was not submitted')
    return stepId
  }
