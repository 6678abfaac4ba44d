import type { z } from 'zod'
import type { Backoff } from '../kernel/backoff.ts'
import type { Sql } from '../db/connect.ts'
import type { Durable } from './durable.ts'

/** What a handler may know of the attempt that it is. */
export interface StepContext extends Durable {
  readonly stepId: string
  readonly type: string
  /** 1 for the first try. */
  readonly attempt: number
  readonly maxRetries: number
  readonly metadata: Readonly<Record<string, unknown>>
  readonly tags: readonly string[]
  /** The same for every attempt of this step: hand it to services outside, so that they can tell a repeat. */
  readonly idempotencyKey: string
  /** Aborted by time limit, cancel, shutdown or fence; `signal.reason` says which. */
  readonly signal: AbortSignal
  readonly log: StepLog
  /** 0 to 100 and a word for people; stored at most once a second, shown by GET /status. */
  progress(percent: number, message?: string): void
  /**
   * A transaction that commits together with this step's settle: what it writes happens exactly once. Opened at
   * the first call, the same one after that; it is rolled back when the handler throws, asks for another try,
   * or has lost its claim. The server ends one
   * that rests for a minute between two statements.
   */
  tx(): Promise<Sql>
}

export interface StepLog {
  debug(message: string, data?: unknown): void
  info(message: string, data?: unknown): void
  warn(message: string, data?: unknown): void
  error(message: string, data?: unknown): void
}

/** What a handler may return instead of a result. */
export class Wish {
  readonly kind: 'retry' | 'snooze' | 'cancel'
  readonly afterMs: number | undefined
  readonly reason: string | undefined

  constructor(kind: Wish['kind'], afterMs?: number, reason?: string) {
    this.kind = kind
    this.afterMs = afterMs
    this.reason = reason
  }
}

/** Try again; counts as an attempt. Without a time the step's retry policy says when. */
export const retry = (afterMs?: number, reason?: string) => new Wish('retry', afterMs, reason)
/** Not now: come back later. Counts as no attempt. */
export const snooze = (afterMs: number, reason?: string) => new Wish('snooze', afterMs, reason)
/** There is nothing to do: the step ends as cancelled. */
export const cancel = (reason?: string) => new Wish('cancel', undefined, reason)

/** Thrown by a handler: no further attempt will help. What extends it may have a name of its own. */
export class NonRetryableError extends Error {
  override readonly name: string = 'NonRetryableError'
}

export interface StepOptions<Input extends z.ZodType> {
  /** Checked at submit where the pod knows the type, and before each run. */
  input?: Input
  /** Time limit of one attempt where the step names none. */
  timeoutSeconds?: number
  /** How long to wait between attempts where the step names nothing. */
  backoff?: Partial<Backoff>
  /** At most this many of the type at once on one pod. */
  concurrency?: number
  /**
   * 'thread' runs the handler in a worker thread: CPU-bound work does not block the pod, and a handler that
   * ignores its time limit is ended. The definition must come from a module of FLEET_Q_HANDLERS; ctx.tx is
   * not available there.
   */
  isolation?: 'none' | 'thread'
}

export interface StepDefinition {
  readonly type: string
  readonly input: z.ZodType | undefined
  readonly timeoutSeconds: number | undefined
  readonly backoff: Partial<Backoff> | undefined
  readonly concurrency: number | undefined
  readonly isolation: 'none' | 'thread'
  /** Arguments have passed `input` when it is called. */
  readonly run: (args: unknown, ctx: StepContext) => unknown
}

/** Names a type of step, says what its arguments are, and what to do with them. */
export function defineStep<Input extends z.ZodType>(
  type: string,
  options: StepOptions<Input>,
  run: (args: z.output<Input>, ctx: StepContext) => unknown,
): StepDefinition {
  return Object.freeze({
    type,
    input: options.input,
    timeoutSeconds: options.timeoutSeconds,
    backoff: options.backoff,
    concurrency: options.concurrency,
    isolation: options.isolation ?? 'none',
    // The runner parses `args` with `input` before it calls; that is what makes this narrowing true.
    run: run as StepDefinition['run'],
  })
}

export const isStepDefinition = (value: unknown): value is StepDefinition =>
  typeof value === 'object' && value !== null && 'type' in value && 'run' in value && 'isolation' in value
