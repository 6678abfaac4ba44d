import { appendFileSync } from 'node:fs'
import { z } from 'zod'
import { defineStep } from '../../../src/step/handler.ts'
import { rest } from '../rest.ts'

/** Steps that tests of death run. Each start is a line in the file that its args name: proof beyond the database. */
const Args = z.object({ file: z.string().optional(), ms: z.number().default(0), n: z.number().default(0) })

const note = (file: string | undefined, line: string) => {
  if (file) appendFileSync(file, `${line}\n`)
}

/** Takes its time, and stops when it is told to. */
export const polite = defineStep('polite', { input: Args }, async ({ file, ms, n }, ctx) => {
  note(file, `start ${ctx.stepId} ${ctx.attempt} ${process.pid}`)
  await rest(ms, ctx.signal)
  note(file, `end ${ctx.stepId} ${ctx.attempt} ${process.pid}`)
  return { n, pid: process.pid, attempt: ctx.attempt }
})

/** Takes its time, and does not listen. */
export const deaf = defineStep('deaf', { input: Args }, async ({ file, ms, n }, ctx) => {
  note(file, `start ${ctx.stepId} ${ctx.attempt} ${process.pid}`)
  await new Promise((resolve) => setTimeout(resolve, ms))
  note(file, `end ${ctx.stepId} ${ctx.attempt} ${process.pid}`)
  return { n, pid: process.pid }
})

/** Blocks the event loop, once: a second attempt is quick. */
export const blocking = defineStep('blocking', { input: Args }, ({ file, ms }, ctx) => {
  note(file, `start ${ctx.stepId} ${ctx.attempt} ${process.pid}`)
  const end = performance.now() + ms
  while (performance.now() < end);
  return { pid: process.pid, attempt: ctx.attempt }
})

/** Ends its process: what a native crash or an out-of-memory kill looks like from outside. */
export const exiting = defineStep('exiting', { input: Args }, ({ file }, ctx) => {
  note(file, `start ${ctx.stepId} ${ctx.attempt} ${process.pid}`)
  process.exit(9)
})

/** Throws where no handler can catch it. */
export const timerThrows = defineStep('timer-throws', { input: Args }, async ({ file }, ctx) => {
  note(file, `start ${ctx.stepId} ${ctx.attempt} ${process.pid}`)
  setTimeout(() => {
    throw new Error('thrown in a timer')
  }, 10)
  await rest(60_000, ctx.signal)
})

/** Writes a row in the transaction that commits with its settle. */
export const ledger = defineStep('ledger', { input: Args }, async ({ file, ms, n }, ctx) => {
  note(file, `start ${ctx.stepId} ${ctx.attempt} ${process.pid}`)
  const tx = await ctx.tx()
  await tx`insert into public.ledger (step_id, attempt, n) values (${ctx.stepId}, ${ctx.attempt}, ${n})`
  await new Promise((resolve) => setTimeout(resolve, ms))
  return { n }
})
