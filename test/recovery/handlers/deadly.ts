import { appendFileSync } from 'node:fs'
import { z } from 'zod'
import { defineStep } from '../../../src/step/handler.ts'

/** What the tests of recovery run beside the steps that every test has. */
export * from '../../support/handlers/steps.ts'

const Args = z.object({ file: z.string(), ms: z.number().default(0), n: z.number().default(0) })

const note = (file: string, line: string) => appendFileSync(file, `${line}\n`)

/** Long in its first attempt, where it listens; at once after that. */
export const longAtFirst = defineStep('long-at-first', { input: Args }, async ({ file, ms }, ctx) => {
  note(file, `start ${ctx.stepId} ${ctx.attempt} ${process.pid}`)
  if (ctx.attempt === 1)
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(resolve, ms)
      ctx.signal.addEventListener('abort', () => {
        clearTimeout(timer)
        reject(ctx.signal.reason)
      })
    })
  return { pid: process.pid, attempt: ctx.attempt }
})

/** Throws in a timer again and again, as a broken client of some service does: once is not the end of it. */
export const throwsOnAndOn = defineStep('throws-on-and-on', { input: Args }, async ({ file }, ctx) => {
  note(file, `start ${ctx.stepId} ${ctx.attempt} ${process.pid}`)
  setInterval(() => {
    throw new Error('thrown in an interval')
  }, 10)
  await new Promise(() => {})
})

/** Throws an error that cannot be described: its message is no text, and its own methods throw. */
export const throwsTheUnspeakable = defineStep('throws-the-unspeakable', { input: Args }, ({ file }, ctx) => {
  note(file, `start ${ctx.stepId} ${ctx.attempt} ${process.pid}`)
  // What a client library makes of a JSON body: Object.assign(new Error(), body).
  throw Object.assign(new Error(), { message: { code: 42 } })
})

/** Writes in its transaction after that has ended, as a handler that ignores its signal does. */
export const writesTooLate = defineStep('writes-too-late', { input: Args }, async ({ file, ms, n }, ctx) => {
  const tx = await ctx.tx()
  await tx`insert into public.ledger (step_id, attempt, n) values (${ctx.stepId}, ${ctx.attempt}, ${n})`
  note(file, `start ${ctx.stepId} ${ctx.attempt} ${process.pid}`)
  await new Promise((resolve) => setTimeout(resolve, ms))
  const late =
    await tx`insert into public.ledger (step_id, attempt, n) values (${ctx.stepId}, ${ctx.attempt}, -1)`
      .then(() => 'written')
      .catch((error: unknown) => `refused ${String(error)}`)
  note(file, `late ${ctx.stepId} ${late}`)
  return { n }
})
