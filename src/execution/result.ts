import { json } from '../step/describe.ts'
import { NonRetryableError } from '../step/handler.ts'

/** Of one checkpoint. */
export const RESULT_BYTES_MAX = 1024 * 1024

/** What a body returned, as it is kept: a replay must get the same, so the first attempt gets it this way too. */
export function asJson(value: unknown): string | null {
  const text = JSON.stringify(value, (key, field: unknown) => {
    if (isJson(field)) return field
    throw new NonRetryableError(
      `what it returned is no JSON${key === '' ? '' : ` at "${key}"`}: ${nameOf(field)} would come back as something else. Return plain objects, arrays, strings, finite numbers, booleans or null.`,
    )
  })
  if (text === undefined) return null
  const bytes = Buffer.byteLength(text)
  if (bytes <= RESULT_BYTES_MAX) return json(value)
  throw new NonRetryableError(
    `what it returned has ${bytes} bytes; ${RESULT_BYTES_MAX} are allowed. Store it elsewhere and return where it lies.`,
  )
}

function isJson(value: unknown): boolean {
  if (typeof value === 'number') return Number.isFinite(value)
  if (typeof value === 'bigint' || typeof value === 'function' || typeof value === 'symbol') return false
  return !(value instanceof Map || value instanceof Set || value instanceof Promise)
}

const nameOf = (value: unknown) =>
  typeof value === 'object' && value !== null
    ? `a ${value.constructor.name}`
    : `${String(value)} (${typeof value})`

/** What the handler gets of it, now and in every replay. */
export const valueOf = (result: string | null): unknown => (result === null ? undefined : JSON.parse(result))
