import { z } from 'zod'
import { defineStep, NonRetryableError } from '../../../src/step/handler.ts'
import { rest } from '../../support/rest.ts'

/** What a run of chaos works through. `op` names the submit that the client made, so that nothing can be invented. */
const Args = z.object({ op: z.string(), ms: z.number().default(0), n: z.number().default(0) })

export const plain = defineStep('plain', { input: Args }, ({ op }) => ({ op }))

export const slow = defineStep('slow', { input: Args }, async ({ op, ms }, ctx) => {
  await rest(ms, ctx.signal)
  return { op }
})

/** Long in its first attempt and at once in the next: a pod that is killed holds it, and the fleet is not full of them. */
export const long = defineStep('long', { input: Args }, async ({ op, ms }, ctx) => {
  if (ctx.attempt === 1) await rest(ms, ctx.signal)
  return { op }
})

/** Writes in the transaction that commits with its settle: once for a step that completed, never for another. */
export const ledger = defineStep('ledger', { input: Args }, async ({ op, ms, n }, ctx) => {
  const tx = await ctx.tx()
  await tx`insert into chaos.ledger (step_id, attempt) values (${ctx.stepId}, ${ctx.attempt})`
  if (ms > 0) await rest(ms, ctx.signal)
  // Every fifth fails after its write, at first: what it wrote must not be there.
  if (n % 5 === 0 && ctx.attempt === 1) throw new Error('after its write')
  return { op }
})

/** An effect outside of the database: it may happen again, and says for which attempt it did. */
export const effect = defineStep('effect', { input: Args }, async ({ op }, ctx) => {
  const response = await fetch(process.env['CHAOS_SINK'] ?? '', {
    method: 'POST',
    body: JSON.stringify({ step: ctx.stepId, attempt: ctx.attempt, pid: process.pid }),
    signal: ctx.signal,
  })
  await response.arrayBuffer()
  return { op }
})

/** Fails n times, then completes: or never does, where n is beyond its retries. */
export const flaky = defineStep(
  'flaky',
  { input: Args, backoff: { base_ms: 50, max_ms: 400 } },
  ({ op, n }, ctx) => {
    if (ctx.attempt <= n) throw new Error(`attempt ${ctx.attempt} of ${n} that fail`)
    return { op }
  },
)

export const refuses = defineStep('refuses', { input: Args }, () => {
  throw new NonRetryableError('it will never work')
})

/** Of a type with a limit in the fleet. */
export const limited = defineStep('limited', { input: Args }, async ({ op, ms }, ctx) => {
  await rest(ms, ctx.signal)
  return { op }
})

/** One at a time for each key. */
export const single = defineStep('single', { input: Args }, async ({ op, ms }, ctx) => {
  await rest(ms, ctx.signal)
  return { op }
})

/** Blocks the event loop of its pod. */
export const blocking = defineStep('blocking', { input: Args }, ({ op, ms }, ctx) => {
  const end = performance.now() + (ctx.attempt === 1 ? ms : 0)
  while (performance.now() < end);
  return { op }
})

/** Takes all memory that its process may have, in its first attempt. */
export const hungry = defineStep('hungry', { input: Args }, ({ op }, ctx) => {
  const kept: unknown[] = []
  while (ctx.attempt === 1) kept.push(Array.from({ length: 100_000 }, (_, i) => ({ i })))
  return { op, kept: kept.length }
})
