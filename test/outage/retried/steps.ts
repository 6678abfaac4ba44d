import { appendFileSync } from 'node:fs'
import { z } from 'zod'
import { defineStep } from '../../../src/step/handler.ts'

export * from '../../support/handlers/steps.ts'

/** Fails in its first attempt; each start is a line in the file. */
export const failsAtFirst = defineStep(
  'fails-at-first',
  { input: z.object({ file: z.string() }) },
  ({ file }, ctx) => {
    appendFileSync(file, `start ${ctx.stepId} ${ctx.attempt} ${process.pid}\n`)
    if (ctx.attempt === 1) throw new Error('the first time')
    return { attempt: ctx.attempt }
  },
)
