import { AsyncLocalStorage } from 'node:async_hooks'
import type { Database } from '../db/connect.ts'
import { openExecution, type Execution, type ExecutionParts } from '../execution/open-execution.ts'
import type { Standstill } from '../execution/memory.ts'
import type { ClaimedStep } from '../step/claim.sql.ts'
import type { Durable } from '../step/durable.ts'
import type { Report } from '../step/settle.sql.ts'
import { NonRetryableError, type StepContext, type StepLog } from '../step/handler.ts'
import { idempotencyKey, publicId } from '../step/step.ts'
import { runInThread } from './isolate.ts'
import type { Notes } from './notes.ts'
import { reportOf, type Ending } from './outcome.ts'
import type { Handled } from './registry.ts'
import { stepTransaction, type StepTransaction } from './transact.ts'

/** Why a handler is told to stop; `signal.reason` in the handler. */
export class Stop extends Error {
  override readonly name = 'Stop'
  readonly why: 'timeout' | 'cancelled' | 'shutdown' | 'silence' | 'fenced' | 'crash'

  constructor(why: Stop['why'], message: string) {
    super(message)
    this.why = why
  }
}

/** Whom an exception is to be blamed on that no handler could catch. */
export interface Author {
  readonly stepId: string
  readonly key: string
  /** Ends the attempt from outside of the handler: a timer of it threw, and the pod dies of it. */
  blame(error: unknown, poison: boolean): void
}

export interface AttemptDeps {
  database: Pick<Database, 'begin'>
  podId: string
  notes: Notes
  stepTimeoutMs: number
  executions: ExecutionParts
  /** How it ended; no report where it is handed in already (with its transaction). Called once. */
  handIn(attempt: Attempt, report: Report | undefined): void
  /** The handler itself is over, later than its report: it had ignored its signal. */
  onOver(attempt: Attempt): void
}

/** Which attempt the code that runs now belongs to; also inside timers that a handler left behind. */
export const currentAuthor = new AsyncLocalStorage<Author>()

/** A handler that honours its signal gets this long to end before its attempt is handed in without it. */
export const LET_GO_MS = 800
const PROGRESS_EVERY_MS = 1000

/**
 * One try of one step, and what its handler gets as `ctx`. A class, and the only one of its kind here: most handlers
 * ask for nothing of it, so its signal, its ids, its log and its transaction are made when they are asked for. Made for
 * each step beforehand they were half of what a pod does for a step (34 us of CPU became 10).
 */
export class Attempt implements StepContext, Author {
  readonly step: ClaimedStep
  readonly startedMs = performance.now()
  /** The handler is over. It may be handed in before, when it does not listen to its signal. */
  over = false
  readonly #handled: Handled
  readonly #deps: AttemptDeps
  #stop: Stop | undefined
  #controller: AbortController | undefined
  #transaction: StepTransaction | undefined
  #limit: NodeJS.Timeout | undefined
  #progressAt = Number.NEGATIVE_INFINITY
  #log: StepLog | undefined
  #execution: Execution | undefined
  #isHeld = false
  #isUndoing = false
  #ended = false

  constructor(step: ClaimedStep, handled: Handled, deps: AttemptDeps) {
    this.step = step
    this.#handled = handled
    this.#deps = deps
  }

  get key() {
    return this.step.step_id
  }

  get isTold(): boolean {
    return this.#stop !== undefined
  }

  get isEnded(): boolean {
    return this.#ended
  }

  get #limitMs(): number {
    const { timeoutSeconds } = this.#handled.definition
    return (
      this.step.timeout_ms ??
      (timeoutSeconds === undefined ? this.#deps.stepTimeoutMs : timeoutSeconds * 1000)
    )
  }

  start() {
    // One that has begun is not cut off in the middle.
    if (this.step.expired && this.step.fresh) return this.#handlerEnded({ kind: 'expired' })
    let returned: unknown
    try {
      returned = currentAuthor.run(this, () => this.#callHandler())
    } catch (error) {
      return this.#handlerEnded({ kind: 'threw', error })
    }
    // Out here: what follows an attempt, the next exchange and its timers, is not its author's, and an exception in there
    // must not be blamed on its step.
    if (!isThenable(returned)) return this.#handlerEnded({ kind: 'returned', value: returned })
    returned.then(
      (value) => this.#handlerEnded({ kind: 'returned', value }),
      (error: unknown) => this.#handlerEnded({ kind: 'threw', error }),
    )
  }

  /** Sets the time limit of a handler that did not end at once; apart from the start, for most of them do. */
  limitTime() {
    if (this.#ended) return
    const limitMs = this.#limitMs
    const restMs = limitMs - (performance.now() - this.startedMs)
    this.#limit = setTimeout(
      () => this.stop(new Stop('timeout', `the attempt did not end within ${limitMs / 1000} s`)),
      Math.max(restMs, 0),
    )
  }

  /** Tells the handler to stop; a while later its attempt ends without it. */
  stop(reason: Stop) {
    if (this.#stop || this.#ended) return
    this.#stop = reason
    this.#controller?.abort(reason)
    setTimeout(() => this.#end(this.#endingOf(reason)), LET_GO_MS).unref()
  }

  /** It is paused: where it remembers anything, it goes away at its next checkpoint. */
  hold() {
    this.#isHeld = true
    this.#execution?.memory.hold()
  }

  /** It was cancelled, and its next attempt undoes what it did. One that knows that goes on, it is at it. */
  stopToUndo() {
    const memory = this.#execution?.memory
    if (memory?.hasRead && !memory.isFailing)
      this.stop(new Stop('cancelled', 'the step is cancelled, and what it did is to be undone'))
  }

  blame(error: unknown, poison: boolean) {
    this.#end({ kind: 'crashed', error, poison })
  }

  #callHandler(): unknown {
    const { definition } = this.#handled
    const parsed = definition.input?.safeParse(this.step.args)
    if (parsed && !parsed.success) throw new BadArguments(parsed.error.issues)
    return this.#run(parsed ? parsed.data : this.step.args)
  }

  #run(args: unknown): unknown {
    const { definition, modulePath, exportName } = this.#handled
    if (definition.isolation !== 'thread') return definition.run(args, this)
    if (modulePath === undefined || exportName === undefined)
      throw new Error(`${definition.type} has no module to load in a thread`)
    return runInThread({ modulePath, exportName, args, context: this }, this.signal)
  }

  #handlerEnded(ending: Ending) {
    this.over = true
    if (this.#ended) return this.#deps.onOver(this)
    const remembers = this.#execution !== undefined || !this.step.fresh
    const isOwn = ending.kind === 'returned' || ending.kind === 'threw'
    if (remembers && isOwn && !this.#stop) void this.#lookBack(ending)
    else this.#end(ending)
  }

  /** What it remembers has a say in how it ends. */
  async #lookBack(own: Ending) {
    let ending = own
    try {
      const { memory, isFinal, unheeded } = this.#remembered
      const failed = ending.kind === 'returned' ? unheeded() : undefined
      if (failed) ending = { kind: 'threw', error: failed.error }
      const isOver = ending.kind === 'returned' || this.#reportOf(ending).outcome === 'failed'
      if (await memory.failure()) {
        const missed = await memory.missedUndo()
        if (missed === undefined) return await this.#undo()
        return this.#end(isOver ? { kind: 'misfit', message: missed } : ending)
      }
      // What failed for good stays, for people; before another attempt it is forgotten.
      if (ending.kind === 'threw' && !isOver && (await isFinal(ending.error)))
        return this.#end({ kind: 'stuck', error: ending.error })
      const missed =
        ending.kind === 'returned' ? await memory.missed() : isOver ? await memory.missedUndo() : undefined
      this.#end(missed === undefined ? ending : { kind: 'misfit', message: missed })
    } catch (error) {
      this.#end({ kind: 'threw', error })
    }
  }

  async #undo() {
    if (this.#isUndoing) return
    this.#isUndoing = true
    const undone = await this.#remembered.undo()
    this.#end(undone ? { kind: 'undone', undone } : SUPERSEDED)
  }

  /** The handler stands still, and nobody waits for it any more. */
  #standStill(how: Standstill) {
    this.over = true
    this.#end(how.kind === 'superseded' ? SUPERSEDED : how)
  }

  get #remembered(): Execution {
    if (this.#execution) return this.#execution
    this.#execution = openExecution(this.#deps.executions, {
      stepId: this.step.step_id,
      claimId: this.step.claim_id,
      fresh: this.step.fresh === true,
      limitMs: this.#limitMs,
      signal: this.signal,
      onStandstill: (how) => this.#standStill(how),
      onUndo: () => {
        this.over = true
        if (!this.#ended) void this.#undo().catch((error: unknown) => this.#end({ kind: 'threw', error }))
      },
    })
    if (this.#isHeld) this.#execution.memory.hold()
    return this.#execution
  }

  #endingOf(reason: Stop): Ending {
    return reason.why === 'timeout'
      ? { kind: 'timeout', limitMs: this.#limitMs }
      : { kind: 'released', why: reason.message }
  }

  #end(ending: Ending) {
    if (this.#ended) return
    this.#ended = true
    this.#execution?.memory.end()
    if (this.#limit) clearTimeout(this.#limit)
    // A handler that stopped because it was told to did not fail.
    const report = this.#reportOf(this.#stop && ending.kind === 'threw' ? this.#endingOf(this.#stop) : ending)
    if (report.delayMs) report.endedMs = performance.now()
    if (this.#transaction) void this.#endTransaction(this.#transaction, report)
    else this.#handIn(report)
  }

  /** One that fails for good and has something to undo does that in its next attempt, from a replay: all ways alike. */
  #handIn(report: Report) {
    const execution = this.#execution
    if (report.outcome === 'failed' && !this.step.fresh && !execution?.hasUndos)
      return this.#handInFailed(report)
    if (!execution?.hasUndos || execution.memory.isFailing) return this.#deps.handIn(this, report)
    if (report.outcome !== 'failed') return this.#deps.handIn(this, { ...report, hasUndos: true })
    const ended = report.ended === 'poison' ? 'pod_died' : report.ended
    const again = { ...report, outcome: null, ended, delayMs: 0, nextAttempt: 1 }
    execution.fail(report.error).then(
      () => this.#deps.handIn(this, again),
      () => this.#deps.handIn(this, report),
    )
  }

  /** Out of time, or of pods, before its code came by what is to be undone: somebody has to look. */
  #handInFailed(report: Report) {
    const { memory } = this.#remembered
    memory.missedUndo().then(
      (missed) =>
        this.#deps.handIn(
          this,
          missed === undefined || memory.isFailing
            ? report
            : this.#reportOf({ kind: 'misfit', message: missed }),
        ),
      () => this.#deps.handIn(this, report),
    )
  }

  #reportOf(ending: Ending): Report {
    const gotFurther = this.#execution?.memory.gotFurther
    return reportOf(this.step, this.#handled.definition, ending, this.startedMs, Math.random(), gotFurther)
  }

  async #endTransaction(transaction: StepTransaction, report: Report) {
    if (report.outcome !== 'completed') {
      await transaction.rollback()
      return this.#handIn(report)
    }
    if (this.#execution?.hasUndos) report.hasUndos = true
    try {
      // Refused: what the handler wrote is undone; handing in the report again is refused again, and counted.
      const isSettled = await transaction.commit(report)
      this.#deps.handIn(this, isSettled ? undefined : report)
    } catch (error) {
      this.#deps.handIn(this, this.#reportOf({ kind: 'threw', error }))
    }
  }

  // What a handler gets as `ctx`.

  get stepId(): string {
    const { step_id: id, salt, created_at } = this.step
    return publicId({ id, salt, createdAt: new Date(created_at) })
  }

  get type(): string {
    return this.step.type
  }

  get attempt(): number {
    return this.step.attempt
  }

  get maxRetries(): number {
    return this.step.max_retries
  }

  get metadata(): Record<string, unknown> {
    return this.step.metadata ?? {}
  }

  get tags(): string[] {
    return this.step.tags ?? []
  }

  get idempotencyKey(): string {
    return idempotencyKey(this.stepId)
  }

  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController()
      if (this.#stop) this.#controller.abort(this.#stop)
    }
    return this.#controller.signal
  }

  get log(): StepLog {
    const { step_id: stepId, claim_id: claimId, attempt } = this.step
    return (this.#log ??= this.#deps.notes.logOf({ stepId, claimId, attempt }))
  }

  // Bound, as handlers take these apart from their context: `({ args }, { tx, progress }) => ...`.
  get progress(): StepContext['progress'] {
    return (percent, message) => {
      const done = percent >= 100
      if (!done && performance.now() - this.#progressAt < PROGRESS_EVERY_MS) return
      this.#progressAt = performance.now()
      this.#deps.notes.progress({
        stepId: this.step.step_id,
        claimId: this.step.claim_id,
        percent: Math.min(Math.max(percent || 0, 0), 100),
        message:
          message === undefined ? null : message.toWellFormed().replaceAll('\0', '\uFFFD').slice(0, 1000),
      })
    }
  }

  get tx(): StepContext['tx'] {
    return () => {
      this.#transaction ??= stepTransaction(
        this.#deps.database,
        this.#deps.podId,
        this.step,
        this.#limitMs + 10_000,
      )
      return this.#transaction.open()
    }
  }

  get run(): Durable['run'] {
    return this.#remembered.ctx.run
  }

  get sleep(): Durable['sleep'] {
    return this.#remembered.ctx.sleep
  }

  get sleepUntil(): Durable['sleepUntil'] {
    return this.#remembered.ctx.sleepUntil
  }

  get waitForEvent(): Durable['waitForEvent'] {
    return this.#remembered.ctx.waitForEvent
  }

  get submit(): Durable['submit'] {
    return this.#remembered.ctx.submit
  }

  get submitAll(): Durable['submitAll'] {
    return this.#remembered.ctx.submitAll
  }

  get onFailure(): Durable['onFailure'] {
    return this.#remembered.ctx.onFailure
  }

  get now(): Durable['now'] {
    return this.#remembered.ctx.now
  }

  get random(): Durable['random'] {
    return this.#remembered.ctx.random
  }

  get version(): Durable['version'] {
    return this.#remembered.ctx.version
  }
}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'

const SUPERSEDED: Ending = { kind: 'released', why: 'another attempt had written what it remembers' }

class BadArguments extends NonRetryableError {
  override readonly name = 'BadArguments'

  constructor(issues: { path: PropertyKey[]; message: string }[]) {
    super(
      `the arguments do not fit: ${issues.map(({ path, message }) => `${['args', ...path].map(String).join('.')}: ${message}`).join('; ')}`,
    )
  }
}
