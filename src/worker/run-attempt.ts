import { AsyncLocalStorage } from 'node:async_hooks'
import type { Database } from '../db/connect.ts'
import type { ClaimedStep, Report } from '../step/exchange.sql.ts'
import { NonRetryableError, type StepContext } from '../step/handler.ts'
import { idempotencyKey, publicId } from '../step/step.ts'
import { runInThread } from './isolate.ts'
import type { Notes } from './notes.ts'
import { reportOf, type Ending } from './outcome.ts'
import type { Handled } from './registry.ts'
import { stepTransaction } from './transact.ts'

/** Why a handler is told to stop; `signal.reason` in the handler. */
export class Stop extends Error {
  override readonly name = 'Stop'
  readonly why: 'timeout' | 'cancelled' | 'shutdown' | 'silence' | 'fenced' | 'crash'

  constructor(why: Stop['why'], message: string) {
    super(message)
    this.why = why
  }
}

export interface Attempt {
  readonly step: ClaimedStep
  readonly stepId: string
  readonly controller: AbortController
  /** Fulfilled with what is to be handed in; undefined when it is handed in already (with its transaction). */
  readonly report: Promise<Report | undefined>
  /** Fulfilled when the handler itself is over, which may be later than its report. */
  readonly over: Promise<void>
}

/** Whom an exception is to be blamed on that no handler could catch. */
export interface Author {
  readonly stepId: string
  readonly key: string
  /** Ends the attempt from outside of the handler: a timer of it threw, and the pod dies of it. */
  blame(error: unknown, poison: boolean): void
}

export interface AttemptDeps {
  database: Database
  podId: string
  notes: Notes
  stepTimeoutMs: number
}

/** Which attempt the code that runs now belongs to; also inside timers that a handler left behind. */
export const currentAuthor = new AsyncLocalStorage<Author>()

/** A handler that honours its signal gets this long to end before its attempt is handed in without it. */
export const LET_GO_MS = 800
const PROGRESS_EVERY_MS = 1000

export function startAttempt(step: ClaimedStep, handled: Handled, deps: AttemptDeps): Attempt {
  const { definition } = handled
  const startedAt = performance.now()
  const stepId = publicId({ id: step.step_id, salt: step.salt, createdAt: step.created_at })
  const limitMs =
    step.timeout_ms ??
    (definition.timeoutSeconds === undefined ? deps.stepTimeoutMs : definition.timeoutSeconds * 1000)
  const controller = new AbortController()
  const transaction = stepTransaction(deps.database, deps.podId, step, limitMs + 10_000)

  let blame: Author['blame'] = () => {}
  const blamed = new Promise<Ending>((resolve) => {
    blame = (error, poison) => resolve({ kind: 'crashed', error, poison })
  })
  const limit = setTimeout(
    () => controller.abort(new Stop('timeout', `the attempt did not end within ${limitMs / 1000} s`)),
    limitMs,
  )

  const handler = step.expired
    ? Promise.resolve<Ending>({ kind: 'expired' })
    : currentAuthor.run({ stepId, key: step.step_id, blame }, () => runHandler())
  const over = handler.then(() => {})
  const report = Promise.race([handler, blamed, letGo()])
    .then(handIn)
    .finally(() => clearTimeout(limit))
  return { step, stepId, controller, report, over }

  async function runHandler(): Promise<Ending> {
    // Not in the stack of the claim loop: a handler that throws at once must not disturb it.
    await Promise.resolve()
    try {
      const parsed = definition.input?.safeParse(step.args)
      if (parsed && !parsed.success) throw new BadArguments(parsed.error.issues)
      const args = parsed ? parsed.data : step.args
      return { kind: 'returned', value: await run(args) }
    } catch (error) {
      return { kind: 'threw', error }
    }
  }

  function run(args: unknown): unknown {
    if (definition.isolation !== 'thread') return definition.run(args, context())
    const { modulePath, exportName } = handled
    if (modulePath === undefined || exportName === undefined)
      throw new Error(`${definition.type} has no module to load in a thread`)
    return runInThread({ modulePath, exportName, args, context: context() }, controller.signal)
  }

  /** Fulfilled some time after the handler was told to stop, for one that does not. */
  function letGo(): Promise<Ending> {
    return new Promise((resolve) => {
      controller.signal.addEventListener('abort', () => {
        setTimeout(() => resolve(endingOf(controller.signal.reason)), LET_GO_MS).unref()
      })
    })
  }

  function endingOf(reason: unknown): Ending {
    if (reason instanceof Stop && reason.why === 'timeout') return { kind: 'timeout', limitMs }
    return { kind: 'released', why: reason instanceof Error ? reason.message : String(reason) }
  }

  async function handIn(ending: Ending): Promise<Report | undefined> {
    // A handler that stopped because it was told to did not fail.
    const told = controller.signal.aborted && ending.kind === 'threw'
    const decided = told ? endingOf(controller.signal.reason) : ending
    const report = reportOf(step, definition, decided, performance.now() - startedAt, Math.random())
    if (!transaction.opened) return report
    if (report.outcome !== 'completed') {
      await transaction.rollback()
      return report
    }
    try {
      // Refused: what the handler wrote is undone; handing in the report again is refused again, and counted.
      return (await transaction.commit(report)) ? undefined : report
    } catch (error) {
      return reportOf(
        step,
        definition,
        { kind: 'threw', error },
        performance.now() - startedAt,
        Math.random(),
      )
    }
  }

  function context(): StepContext {
    let progressAt = Number.NEGATIVE_INFINITY
    return {
      stepId,
      type: step.type,
      attempt: step.attempt,
      maxRetries: step.max_retries,
      metadata: step.metadata ?? {},
      tags: step.tags ?? [],
      idempotencyKey: idempotencyKey(stepId),
      signal: controller.signal,
      log: deps.notes.logOf({ stepId: step.step_id, claimId: step.claim_id, attempt: step.attempt }),
      progress(percent, message) {
        const done = percent >= 100
        if (!done && performance.now() - progressAt < PROGRESS_EVERY_MS) return
        progressAt = performance.now()
        deps.notes.progress({
          stepId: step.step_id,
          claimId: step.claim_id,
          percent: Math.min(Math.max(percent || 0, 0), 100),
          message:
            message === undefined ? null : message.toWellFormed().replaceAll('\0', '\uFFFD').slice(0, 1000),
        })
      },
      tx: () => transaction.open(),
    }
  }
}

class BadArguments extends NonRetryableError {
  constructor(issues: { path: PropertyKey[]; message: string }[]) {
    super(
      `the arguments do not fit: ${issues.map(({ path, message }) => `${['args', ...path].map(String).join('.')}: ${message}`).join('; ')}`,
    )
  }
}
