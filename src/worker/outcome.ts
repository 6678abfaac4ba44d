import { backoffMs, DEFAULT_BACKOFF, type Backoff } from '../kernel/backoff.ts'
import type { Undone } from '../execution/undo.ts'
import type { ClaimedStep } from '../step/claim.sql.ts'
import type { Report } from '../step/settle.sql.ts'
import { describeError, isNonRetryable, json } from '../step/describe.ts'
import { NonRetryableError, Wish, type StepDefinition } from '../step/handler.ts'

/** How one run of a handler ended, before anything is decided. */
export type Ending =
  | { kind: 'returned'; value: unknown }
  | { kind: 'threw'; error: unknown }
  /** Its pod ends of what it threw where nobody could catch it; `poison`: not the first pod that did. */
  | { kind: 'crashed'; error: unknown; poison: boolean }
  | { kind: 'timeout'; limitMs: number }
  /** The pod had to let go: shutdown, or silence of the database. Counts as no attempt. */
  | { kind: 'released'; why: string }
  /** Nobody got to it in time. */
  | { kind: 'expired' }
  /** It sleeps, or waits for something. Null: no time wakes it. */
  | { kind: 'suspended'; delayMs: number | null; waits: boolean }
  | { kind: 'misfit'; message: string }
  /** It had failed or was cancelled, and what it had done is undone, as far as that could be done. */
  | { kind: 'undone'; undone: Undone }
  /** Failed of what is remembered, and further attempts would meet the same. */
  | { kind: 'stuck'; error: unknown }

export const RESULT_BYTES_MAX = 1024 * 1024
const SNOOZE_MS_MAX = 10 * 365 * 86_400_000

/** What becomes of the step. Pure: time and chance are arguments. */
export function reportOf(
  step: ClaimedStep,
  definition: Pick<StepDefinition, 'backoff'> | undefined,
  ending: Ending,
  startedMs: number,
  chance: number,
  /** It has written a checkpoint: retries are counted from there. */
  gotFurther = false,
): Report {
  const tried = gotFurther ? 1 : step.attempt
  const base: Report = {
    claimId: step.claim_id,
    stepId: step.step_id,
    attempt: step.attempt,
    outcome: null,
    ended: null,
    result: null,
    error: null,
    startedMs,
    delayMs: null,
    nextAttempt: null,
    ...(step.has_parent ? { hasParent: true } : {}),
  }

  const again = (
    ended: 'failed' | 'timeout' | 'pod_died' | 'retried',
    error: object,
    afterMs?: number,
  ): Report => {
    if (tried > step.max_retries) return { ...base, outcome: 'failed', ended, error: json(error) }
    const backoff: Backoff = { ...DEFAULT_BACKOFF, ...definition?.backoff, ...step.retry }
    const delayMs = afterMs ?? backoffMs(backoff, tried, chance)
    return { ...base, ended, error: json(error), delayMs, nextAttempt: tried + 1 }
  }

  switch (ending.kind) {
    case 'expired':
      return {
        ...base,
        outcome: 'skipped',
        error: json({ class: 'Expired', message: 'expires_at had passed before the step could start' }),
      }
    case 'released':
      return {
        ...base,
        ended: 'released',
        error: json({ class: 'Released', message: ending.why }),
        delayMs: 0,
        nextAttempt: tried,
      }
    case 'suspended':
      return {
        ...base,
        ended: 'suspended',
        delayMs: ending.delayMs,
        nextAttempt: tried,
        ...(ending.waits ? { waitsFor: 'answer' } : {}),
      }
    case 'misfit':
      return {
        ...base,
        ended: 'misfit',
        error: json({ class: 'Misfit', message: ending.message }),
        nextAttempt: tried,
        waitsFor: 'attention',
      }
    case 'undone':
      return undone(ending.undone)
    case 'stuck':
      return { ...base, outcome: 'failed', ended: 'failed', error: json(describeError(ending.error)) }
    case 'timeout':
      return again('timeout', {
        class: 'Timeout',
        message: `the attempt did not end within ${ending.limitMs / 1000} s`,
      })
    case 'threw':
      return isNonRetryable(ending.error)
        ? { ...base, outcome: 'failed', ended: 'failed', error: json(describeError(ending.error)) }
        : again('failed', describeError(ending.error))
    case 'crashed':
      return ending.poison
        ? { ...base, outcome: 'failed', ended: 'poison', error: json(describeError(ending.error)) }
        : again('pod_died', describeError(ending.error))
    case 'returned':
      if (isWish(ending.value)) return grant(ending.value)
      return complete(ending.value)
  }

  function undone({ error, left }: Undone): Report {
    const rest = left.map(({ name, message }) => `; "${name}" could not be undone: ${message}`).join('')
    const described = json({ ...error, message: `${error.message}${rest}` })
    return error.class === 'Cancelled'
      ? { ...base, outcome: 'cancelled', error: described }
      : { ...base, outcome: 'failed', ended: 'failed', error: described }
  }

  function grant(wish: Wish): Report {
    if (wish.kind === 'cancel')
      return {
        ...base,
        outcome: 'cancelled',
        error: json({ class: 'Cancelled', message: wish.reason ?? 'the handler had nothing to do' }),
      }
    if (wish.kind === 'retry')
      return again(
        'retried',
        { class: 'Retry', message: wish.reason ?? 'the handler asked for another try' },
        wish.afterMs,
      )
    const delayMs = Math.min(Math.max(wish.afterMs ?? 0, 0), SNOOZE_MS_MAX)
    return {
      ...base,
      ended: 'snoozed',
      error: wish.reason ? json({ class: 'Snooze', message: wish.reason }) : null,
      delayMs,
      nextAttempt: tried,
    }
  }

  function complete(value: unknown): Report {
    try {
      const result = value === undefined ? null : json(value)
      // A character has three bytes at most: short results need not be measured.
      if (
        result !== null &&
        result.length > RESULT_BYTES_MAX / 3 &&
        Buffer.byteLength(result) > RESULT_BYTES_MAX
      )
        throw new NonRetryableError(
          `the result has ${Buffer.byteLength(result)} bytes; ${RESULT_BYTES_MAX} are allowed. Store it elsewhere and return where it lies.`,
        )
      return { ...base, outcome: 'completed', result }
    } catch (error) {
      // A cycle, a BigInt, a size: another attempt would return the same.
      return { ...base, outcome: 'failed', ended: 'failed', error: json(describeError(error)) }
    }
  }
}

/** A step goes back as it came: it costs no attempt. */
export const releaseReport = (claimId: string, stepId: string, attempt: number, why: string): Report => ({
  claimId,
  stepId,
  attempt,
  outcome: null,
  ended: 'released',
  result: null,
  error: json({ class: 'Released', message: why }),
  startedMs: performance.now(),
  delayMs: 0,
  nextAttempt: attempt,
})

/** By name too: a handler may bring its own copy of the library. */
const isWish = (value: unknown): value is Wish =>
  value instanceof Wish ||
  (typeof value === 'object' && value !== null && nameOf(value) === 'Wish' && 'kind' in value)

/** What matches a pattern with names, and other objects without a prototype, have no constructor to ask. */
const nameOf = (value: object): unknown => ('constructor' in value ? value.constructor.name : undefined)
