import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { defineStep, NonRetryableError, type StepContext } from '../../step/handler.ts'
import type { LoadedStep } from '../load.ts'

/** Types to try a fleet with. Nothing real happens in them. */

export const helloWorld = defineStep(
  'hello_world',
  {
    input: z
      .looseObject({ message: z.string().max(10_000).optional(), name: z.string().max(200).default('world') })
      .describe('Greets, or says what it was told to say'),
  },
  ({ message, name }, ctx) => {
    const greeting = message ?? `Hello, ${name}!`
    ctx.log.info(greeting)
    return { greeting }
  },
)

export const sleep = defineStep(
  'sleep',
  {
    input: z
      .object({ seconds: z.number().min(0).max(86_400).default(1) })
      .describe('Waits, and can be stopped'),
  },
  async ({ seconds }, ctx) => {
    await waitWithProgress(seconds * 1000, ctx)
    return { slept_seconds: seconds }
  },
)

export const flaky = defineStep(
  'flaky',
  {
    input: z
      .object({ fail_times: z.int().min(0).max(1000).default(1) })
      .describe('Fails on its first attempts and then succeeds'),
  },
  ({ fail_times }, ctx) => {
    if (ctx.attempt <= fail_times)
      throw new Error(`attempt ${ctx.attempt} fails, as asked: the first ${fail_times} do`)
    return { attempts: ctx.attempt }
  },
)

export const fail = defineStep(
  'fail',
  {
    input: z
      .object({
        message: z.string().max(10_000).default('it fails, as asked'),
        retryable: z.boolean().default(true),
      })
      .describe('Fails on every attempt, or at once for good'),
  },
  ({ message, retryable }) => {
    throw retryable ? new Error(message) : new NonRetryableError(message)
  },
)

export const countPrimes = defineStep(
  'count_primes',
  {
    isolation: 'thread',
    input: z
      .object({ up_to: z.int().min(0).max(1_000_000_000).default(1_000_000) })
      .describe('Counts prime numbers in a thread of its own: work for the processor that blocks nobody'),
  },
  async ({ up_to }, ctx) => ({ up_to, primes: await primesUpTo(up_to, ctx) }),
)

export const dataProcessing = defineStep(
  'data_processing',
  {
    input: z
      .looseObject({ input_file: z.string().optional(), output_format: z.string().optional() })
      .describe('Pretends to process a file for about a second'),
  },
  async (args, ctx) => {
    const source = args.input_file ?? 'data.csv'
    ctx.log.info(`reading ${source}`)
    await waitWithProgress(1000, ctx)
    // The same file always has as many rows, so that a repeated step can be told from a new one.
    const rows = 1000 + ((JSON.stringify(args).length * 37) % 9000)
    return { source, output_format: args.output_format ?? 'json', rows, skipped: rows % 7 }
  },
)

export const emailNotification = defineStep(
  'email_notification',
  {
    input: z
      .looseObject({ to: z.string().optional(), subject: z.string().optional(), body: z.string().optional() })
      .describe('Pretends to send an e-mail: nothing leaves the pod'),
  },
  async ({ to, subject }, ctx) => {
    await waitWithProgress(200, ctx)
    ctx.log.info(`would send "${subject ?? '(no subject)'}" to ${to ?? '(nobody)'}`)
    return { sent: false, to: to ?? null, message_id: `demo-${ctx.idempotencyKey}` }
  },
)

const modulePath = fileURLToPath(import.meta.url)

/** All of them, with the place where a thread finds them again. */
export const demoSteps: readonly LoadedStep[] = Object.entries({
  helloWorld,
  sleep,
  flaky,
  fail,
  countPrimes,
  dataProcessing,
  emailNotification,
}).map(([exportName, definition]) => ({ definition, modulePath, exportName }))

const PROGRESS_STEPS = 10
const SEGMENT = 1 << 20

async function waitWithProgress(ms: number, ctx: StepContext) {
  for (let done = 0; done < PROGRESS_STEPS; done++) {
    ctx.progress((done / PROGRESS_STEPS) * 100)
    // Without the catch the handler would end with an AbortError instead of the reason.
    await pause(ms / PROGRESS_STEPS, undefined, { signal: ctx.signal }).catch(() =>
      ctx.signal.throwIfAborted(),
    )
  }
  ctx.progress(100)
}

/** A sieve in segments that fit the cache; between two of them an abort is heard. */
async function primesUpTo(limit: number, ctx: StepContext): Promise<number> {
  const small = smallPrimes(Math.floor(Math.sqrt(limit)))
  let count = 0
  for (let low = 2; low <= limit; low += SEGMENT) {
    const high = Math.min(low + SEGMENT - 1, limit)
    const composite = new Uint8Array(high - low + 1)
    for (const prime of small)
      for (let n = Math.max(prime * prime, Math.ceil(low / prime) * prime); n <= high; n += prime)
        composite[n - low] = 1
    for (const mark of composite) count += 1 - mark
    ctx.progress((high / limit) * 100, `${count} primes up to ${high}`)
    await pause(0)
    ctx.signal.throwIfAborted()
  }
  return count
}

function smallPrimes(limit: number): number[] {
  const composite = new Uint8Array(limit + 1)
  const primes: number[] = []
  for (let n = 2; n <= limit; n++) {
    if (composite[n] === 1) continue
    primes.push(n)
    for (let multiple = n * n; multiple <= limit; multiple += n) composite[multiple] = 1
  }
  return primes
}
