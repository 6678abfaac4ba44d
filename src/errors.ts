/**
 * Every way Fleet-Q says no, in words of the domain. What each means over HTTP is written once, in
 * http/problem.ts; what each means to a shell is written once, in main.ts.
 */
export const ERROR_CODES = [
  // what the caller sent
  'invalid_input',
  'body_too_large',
  'not_json',
  'unauthenticated',
  'permission_denied',
  'route_not_found',
  'method_not_allowed',
  'rate_limited',
  // what the fleet holds
  'step_not_found',
  'execution_not_found',
  'pod_not_found',
  'dead_letter_not_found',
  'token_not_found',
  'not_leader',
  'recovery_in_progress',
  'idempotency_conflict',
  'unique_conflict',
  'name_taken',
  'wrong_state',
  // what is not to be had now
  'not_running',
  'database_unavailable',
  'database_error',
  'timeout',
  'internal_error',
  // why a pod does not start
  'config_invalid',
  'port_taken',
  'data_dir_unusable',
  'postgres_missing',
  'postgres_failed',
  'postgres_too_old',
  'schema_newer',
  'schema_older',
] as const

export type ErrorCode = (typeof ERROR_CODES)[number]

/** One thing that is wrong with an input: where, and what. */
export interface Issue {
  at: string
  message: string
}

export interface ErrorDetail {
  issues?: Issue[]
  retryAfterSeconds?: number
  cause?: unknown
}

/** The message is a sentence for a person: what happened, why, and what to do. */
export class FleetError extends Error {
  readonly code: ErrorCode
  readonly issues: Issue[] | undefined
  readonly retryAfterSeconds: number | undefined

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause })
    this.name = 'FleetError'
    this.code = code
    this.issues = detail.issues
    this.retryAfterSeconds = detail.retryAfterSeconds
  }
}
