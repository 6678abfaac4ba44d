import { z } from 'zod'
import { defineStep } from '../../../src/step/handler.ts'

/** A pod of a version before or after: it knows neither `slow`, nor `ledger`, nor `single`. */
export { blocking, effect, flaky, hungry, limited, plain, refuses } from '../handlers/steps.ts'

export const novel = defineStep('novel', { input: z.object({}) }, () => ({}))
