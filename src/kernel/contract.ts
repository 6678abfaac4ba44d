import { z } from 'zod'

/** The pieces that requests and answers of every noun are made of. Those with an id are components of openapi.json. */

/** Postgres stores neither NUL nor half a surrogate pair. Bodies are checked by parseJson; URLs come here. */
export const text = (max: number, min = 1) =>
  z
    .string()
    .min(min)
    .max(max)
    .refine((value) => value.isWellFormed() && !value.includes('\0'), 'holds NUL or half a surrogate pair')

const LAST_INSTANT = Date.UTC(9999, 11, 31, 23, 59, 59, 999)

const isStorable = (value: string) => {
  const at = Date.parse(value)
  return at >= 0 && at <= LAST_INSTANT
}

/**
 * A time that a client sends: with an offset, so that no pod's zone decides; handed on in UTC, because Postgres
 * takes no offset beyond 15:59 and no year 0.
 */
export const instantSent = z.iso
  .datetime({ offset: true, error: 'must be a time with an offset, such as 2026-11-20T08:30:00Z' })
  .refine(isStorable, 'must lie between 1970 and 9999')
  .overwrite((value) => (isStorable(value) ? new Date(value).toISOString() : value))

/** A time that we send: ISO 8601, UTC, milliseconds. */
export const instant = z.iso.datetime({ precision: 3 })

export const count = z.int().min(0)
export const seconds = z.number().min(0)
export const TEN_YEARS_SECONDS = 315_360_000

const isObject = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value)

/** Not z.record: that copies the object key by key, 110 ms for 100,000 keys. What is inside passed parseJson. */
export const jsonObject = z
  .custom<Record<string, unknown>>(isObject, { error: 'must be an object' })
  .meta({ type: 'object', additionalProperties: true })

/** Any value of JSON. */
export const json = z.unknown()

const DECIMAL = /^-?\d{1,15}(\.\d{1,15})?$/

/**
 * A number in a query string. The type says number on both sides: that is what the typed client takes and the
 * handler gets; the text between them is this function's business alone.
 */
export function queryNumber<S extends z.ZodType<number, number>>(schema: S): S
export function queryNumber(schema: z.ZodType): z.ZodType {
  return z.preprocess(
    (value) => (typeof value === 'string' && DECIMAL.test(value) ? Number(value) : value),
    schema,
  )
}

export const paging = {
  limit: queryNumber(z.int().min(1).max(1000)).default(20).describe('at most so many'),
  cursor: text(500).optional().describe('from next_cursor of the page before'),
}

export const nextCursor = z
  .string()
  .nullable()
  .describe('hand it in as cursor to get the next page; null on the last one')

export const stepId = text(200)
export const stepPath = z.strictObject({ step_id: stepId })

/** How many steps one bulk call changes, and whether it only counts them. */
export const bulk = {
  dry_run: z.boolean().default(false).describe('count, change nothing'),
  limit: z.int().min(1).max(10_000).default(1000).describe('change at most so many'),
}

export const BulkAnswer = z
  .strictObject({
    matched: count,
    changed: count,
    dry_run: z.boolean(),
    sample: z.array(stepId).describe('some of them'),
    more: z.boolean().describe('there are more than limit: call again'),
  })
  .meta({ id: 'BulkAnswer' })

export const StepError = z
  .looseObject({ class: z.string().optional(), message: z.string() })
  .meta({ id: 'StepError' })

export const ERROR_TYPES = [
  'validation_error',
  'unauthenticated',
  'permission_denied',
  'not_found',
  'method_not_allowed',
  'conflict',
  'rate_limited',
  'too_many_runs',
  'not_running',
  'database_unavailable',
  'timeout',
  'internal_error',
  'database_error',
] as const

/** What every error looks like, on every door. */
export const Problem = z
  .strictObject({
    detail: z.string().describe('what happened, why, and what to do'),
    error: z.string().describe('the same as detail'),
    error_type: z.enum(ERROR_TYPES),
    timestamp: instant,
    path: z.string(),
    request_id: z.string().describe('names the request in the log'),
    issues: z
      .array(z.strictObject({ at: z.string(), message: z.string() }))
      .optional()
      .describe('what is wrong, field by field'),
  })
  .meta({ id: 'Problem' })

export type Problem = z.output<typeof Problem>
