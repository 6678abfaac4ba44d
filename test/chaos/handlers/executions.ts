import { z } from 'zod'
import { ChildFailed, EventTimeout, type Child } from '../../../src/step/durable.ts'
import { defineStep, NonRetryableError } from '../../../src/step/handler.ts'
import { tellSink, traceOf } from '../trace.ts'

/** What a run of chaos remembers: executions that sleep, wait, spawn and undo, each of them with a trace of what it was given. */
const Args = z.object({ op: z.string(), ms: z.number().default(0), n: z.number().default(0) })
const options = { input: Args, backoff: { base_ms: 50, max_ms: 400 } }

/** Nobody is told of it that no event came. */
const inTime = (error: unknown) => {
  if (!(error instanceof EventTimeout)) throw error
}

export const remembers = defineStep('remembers', options, async ({ op, ms, n }, ctx) => {
  const trace = traceOf(ctx)
  await trace.think('think', 0, n % 3)
  await trace.effect('effect')
  await ctx.sleep('pause', ms)
  await trace.ledger('ledger')
  await ctx.now()
  await trace.given('$random', () => ctx.random())
  await trace.effect('effect')
  await trace.ledger('ledger')
  return { op, seen: trace.seen }
})

/** For one that always comes, and for one that comes about when it waits no longer. */
export const waits = defineStep('waits', options, async ({ op, ms }, ctx) => {
  const trace = traceOf(ctx)
  await trace.think('think')
  await trace.given('go', () => ctx.waitForEvent('go'))
  await trace.effect('effect')
  await trace.given('maybe', () => ctx.waitForEvent('maybe', { timeout: ms })).catch(inTime)
  await trace.ledger('ledger')
  return { op, seen: trace.seen }
})

/** Of its children one does much, one fails at first, and one always. */
export const parent = defineStep('parent', options, async ({ op, ms }, ctx) => {
  const trace = traceOf(ctx)
  const children: Child[] = []
  for (const [i, type] of ['remembers', 'flaky', 'refuses'].entries())
    children.push(
      await ctx.submit('child', {
        type,
        args: { op: `${op}/${i}`, ms, n: 1 },
        max_retries: type === 'refuses' ? 0 : 20,
      }),
    )
  await trace.effect('effect')
  await Promise.all(
    children.map((child) =>
      trace
        .given('child/result', () => child.result())
        .catch((error: unknown) => {
          if (!(error instanceof ChildFailed)) throw error
        }),
    ),
  )
  await trace.ledger('ledger')
  return { op, seen: trace.seen }
})

/** Branches that ask for the same names; one of them waits while the others are at work. */
export const beside = defineStep('beside', options, async ({ op, ms }, ctx) => {
  const trace = traceOf(ctx)
  await Promise.all(
    [1, 2, 3].map(async (branch) => {
      await trace.think('think', branch * 5)
      if (branch === 3)
        await trace.given('go', () => ctx.waitForEvent('go', { timeout: ms * 3 })).catch(inTime)
      else await ctx.sleep('pause', ms / branch)
      await trace.ledger('ledger')
      await trace.think('think', branch === 1 ? ms * 2 : 0)
    }),
  )
  await trace.effect('effect')
  return { op, seen: trace.seen }
})

/** One of three fails, one fails where nothing is sent to it, one succeeds: or is cancelled meanwhile, all of them. */
export const saga = defineStep('saga', options, async ({ op, ms, n }, ctx) => {
  const trace = traceOf(ctx)
  for (const what of ['first', 'second']) {
    await trace.effect('effect')
    await ctx.onFailure(`undo ${what}`, ({ signal }) => tellSink(ctx, {}, signal), {
      retry: { max: 10, base_ms: 50 },
    })
  }
  await ctx.sleep('pause', ms)
  if (n % 3 === 0)
    await ctx.run('pay', () => {
      throw new NonRetryableError('no money')
    })
  if (n % 3 === 1) await trace.given('go', () => ctx.waitForEvent('go', { timeout: ms }))
  return { op, seen: trace.seen }
})

/** All that a crash may fall into, and nothing outside of the database: for the matrix of failpoints. */
export const durable = defineStep('durable', options, async ({ op, ms }, ctx) => {
  const trace = traceOf(ctx)
  await trace.think('think', ms)
  await trace.ledger('ledger')
  await ctx.sleep('pause', ms)
  const child = await ctx.submit('child', { type: 'plain', args: { op: `${op}/child` } })
  await trace.given('child/result', () => child.result())
  await trace.ledger('ledger')
  return { op, seen: trace.seen }
})

/** Waits for as many as it is told to. */
export const listens = defineStep('listens', options, async ({ op, n }, ctx) => {
  const trace = traceOf(ctx)
  for (let i = 0; i < n; i++) await trace.given('go', () => ctx.waitForEvent('go'))
  return { op, seen: trace.seen }
})

/** Fails for good, and undoes two things. */
export const repents = defineStep('repents', options, async (_, ctx) => {
  const trace = traceOf(ctx)
  for (const what of ['first', 'second']) {
    await trace.ledger('ledger')
    await ctx.onFailure(`undo ${what}`, () => {}, { retry: { max: 3, base_ms: 50 } })
  }
  throw new NonRetryableError('it will never work')
})
