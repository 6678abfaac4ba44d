import { appendFileSync } from 'node:fs'
import { z } from 'zod'
import { defineStep } from '../../../src/step/handler.ts'

/** Runs until it is told to stop, and writes down both moments on a clock that all processes of a machine share. */
export const watched = defineStep(
  'watched',
  { input: z.object({ file: z.string() }) },
  ({ file }, ctx) =>
    new Promise((_resolve, reject) => {
      const note = (what: string) =>
        appendFileSync(file, `${what} ${ctx.attempt} ${process.pid} ${process.hrtime.bigint()}\n`)
      note('start')
      ctx.signal.addEventListener('abort', () => {
        note(`abort:${(ctx.signal.reason as { why: string }).why}`)
        reject(ctx.signal.reason as Error)
      })
    }),
)
