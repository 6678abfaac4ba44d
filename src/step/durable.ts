import type { z } from 'zod'
import type { Sql } from '../db/connect.ts'
import type { Backoff } from '../kernel/backoff.ts'
import { NonRetryableError } from './handler.ts'

/** What a handler remembers: asked for by name, done once, and handed out again to every later attempt. */
export interface Durable {
  /** What the body writes through tx, and its checkpoint, are committed together: exactly once, whatever dies. */
  run<T>(
    name: string,
    body: (run: RunContext & { tx: Sql }) => T | Promise<T>,
    options: RunOptions & { tx: true },
  ): Promise<T>
  /**
   * Runs `body` until it has a result, and never again after that: later attempts get the result that is stored. What it
   * returns has to be JSON. A name may come again, in a loop say; each time is remembered apart.
   */
  run<T>(name: string, body: (run: RunContext) => T | Promise<T>, options?: RunOptions): Promise<T>
  /** The step goes away until then: it holds no slot and no memory, and may be woken on another pod. */
  sleep(name: string, duration: Duration): Promise<void>
  sleepUntil(name: string, when: Date | string): Promise<void>
  /** The payload of the first event of that name that no other wait has taken, whether it came before or comes yet. */
  waitForEvent(name: string): Promise<unknown>
  waitForEvent<Schema extends z.ZodType>(
    name: string,
    options: WaitOptions & { schema: Schema },
  ): Promise<z.output<Schema>>
  waitForEvent(name: string, options: WaitOptions): Promise<unknown>
  /** Submits another step, once. It is cancelled with this one, unless it is detached. */
  submit(name: string, wish: ChildWish): Promise<Child>
  /** Submits many other steps, once: all of them or none, 1000 at most. They are cancelled with this one. */
  submitAll(name: string, wishes: Omit<ChildWish, 'detached'>[]): Promise<Children>
  /**
   * Should this execution fail for good or be cancelled, `undo` runs: what was registered last is undone first, each until
   * it has succeeded or has used up its tries.
   */
  onFailure(name: string, undo: (run: RunContext) => unknown, options?: RunOptions): Promise<void>
  /** The database's clock, remembered. */
  now(): Promise<Date>
  /** 0 to 1, remembered. */
  random(): Promise<number>
  /**
   * Which version of the code at this place an execution goes by: `newest` for those that come here for the first time,
   * 1 for those that had passed it before it was asked. Remembered.
   */
  version(name: string, newest: number): Promise<number>
}

export interface RunContext {
  /** 1 for the first try of this body. */
  readonly attempt: number
  readonly signal: AbortSignal
}

export interface RunOptions {
  /** Further tries of this body alone, before its failure is the handler's. They survive a crash. */
  retry?: Partial<Backoff> & { max: number }
}

export interface WaitOptions {
  timeout?: Duration
  schema?: z.ZodType
}

/** Milliseconds, or words: '90 s', '5 minutes', '1 day'. */
export type Duration = number | string

export interface ChildWish {
  type: string
  args?: Record<string, unknown>
  priority?: number
  max_retries?: number
  key?: string
  tags?: string[]
  timeout_seconds?: number
  delay_seconds?: number
  /** It goes on when this execution is cancelled. */
  detached?: boolean
}

export interface Child {
  readonly stepId: string
  /** Waits for its outcome: what it returned, or a ChildFailed. */
  result(): Promise<unknown>
}

export interface Children {
  /** In the order of the wishes. */
  readonly stepIds: readonly string[]
  /**
   * What each of them returned, when the last has ended: the execution is woken once, however many there are. Or the
   * ChildFailed of the first that did not complete.
   */
  results(): Promise<unknown[]>
}

/** A body of ctx.run failed for good, now or in an earlier attempt. What it threw is told, not thrown again. */
export class RunFailed extends Error {
  override readonly name = 'RunFailed'
  readonly checkpoint: string
  /** The class of what it threw. */
  readonly thrown: string

  constructor(checkpoint: string, thrown: string, message: string) {
    super(`${checkpoint}: ${message}`)
    this.checkpoint = checkpoint
    this.thrown = thrown
  }
}

/** No event came in time. Where the handler does not catch it the step fails: another attempt would not help. */
export class EventTimeout extends NonRetryableError {
  override readonly name = 'EventTimeout'

  constructor(event: string) {
    super(`no event "${event}" came in time`)
  }
}

export class ChildFailed extends NonRetryableError {
  override readonly name = 'ChildFailed'
  readonly stepId: string
  readonly status: string

  constructor(stepId: string, status: string, message: string) {
    super(`${stepId} ${status === 'failed' ? 'failed' : `was ${status}`}${message ? `: ${message}` : ''}`)
    this.stepId = stepId
    this.status = status
  }
}

/** Where a handler runs without a memory. */
export function withoutMemory(why: string): Durable {
  const refuse = () => Promise.reject(new NonRetryableError(why))
  return {
    run: refuse,
    sleep: refuse,
    sleepUntil: refuse,
    waitForEvent: refuse,
    submit: refuse,
    submitAll: refuse,
    onFailure: refuse,
    now: refuse,
    random: refuse,
    version: refuse,
  }
}
