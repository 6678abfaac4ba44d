import { parseDuration } from '../kernel/duration.ts'
import type { Duration } from '../step/durable.ts'
import { NonRetryableError } from '../step/handler.ts'

/** Times and spans as handlers give them: what is none fails at once, for no retry would make it one. */

export function instantOf(when: Date | string): string {
  const at = new Date(when)
  if (!Number.isNaN(at.getTime())) return at.toISOString()
  throw new NonRetryableError(
    `${String(when)} is no time: give a Date, or text such as "2026-12-01T09:00:00Z"`,
  )
}

/** A hundred years: further than that a time of Postgres may not reach. */
const SPAN_MS_MAX = 100 * 365.25 * 86_400_000

export function msOf(duration: Duration): number {
  const ms = typeof duration === 'number' ? duration : spelled(duration)
  if (ms >= 0 && ms <= SPAN_MS_MAX) return ms
  throw new NonRetryableError(
    `${ms} is no span of time: give milliseconds, up to a hundred years, or words such as "5 minutes"`,
  )
}

function spelled(words: string): number {
  try {
    return parseDuration(words)
  } catch (error) {
    throw new NonRetryableError(error instanceof Error ? error.message : String(error))
  }
}
