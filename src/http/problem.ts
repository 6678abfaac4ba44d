import { FleetError, type ErrorCode, type Issue } from '../errors.ts'
import type { Problem } from '../kernel/contract.ts'
import { ISSUES_MAX } from './issues.ts'

export type FailureStatus = 400 | 401 | 403 | 404 | 405 | 409 | 413 | 415 | 429 | 500 | 503 | 504

interface Meaning {
  status: FailureStatus
  error_type: Problem['error_type']
  /** Where the error itself does not say. */
  retryAfterSeconds?: number
}

const ours: Meaning = { status: 500, error_type: 'internal_error' }

/** What each way of saying no means over HTTP: the only place that knows. */
export const STATUS = {
  invalid_input: { status: 400, error_type: 'validation_error' },
  body_too_large: { status: 413, error_type: 'validation_error' },
  not_json: { status: 415, error_type: 'validation_error' },
  unauthenticated: { status: 401, error_type: 'unauthenticated' },
  permission_denied: { status: 403, error_type: 'permission_denied' },
  route_not_found: { status: 404, error_type: 'not_found' },
  method_not_allowed: { status: 405, error_type: 'method_not_allowed' },
  rate_limited: { status: 429, error_type: 'rate_limited', retryAfterSeconds: 1 },
  execution_not_found: { status: 404, error_type: 'not_found' },
  step_not_found: { status: 404, error_type: 'not_found' },
  pod_not_found: { status: 404, error_type: 'not_found' },
  dead_letter_not_found: { status: 404, error_type: 'not_found' },
  token_not_found: { status: 404, error_type: 'not_found' },
  not_leader: { status: 403, error_type: 'permission_denied' },
  recovery_in_progress: { status: 409, error_type: 'conflict' },
  idempotency_conflict: { status: 409, error_type: 'conflict' },
  name_taken: { status: 409, error_type: 'conflict' },
  unique_conflict: { status: 409, error_type: 'conflict' },
  wrong_state: { status: 409, error_type: 'conflict' },
  not_running: { status: 503, error_type: 'not_running', retryAfterSeconds: 5 },
  database_unavailable: { status: 503, error_type: 'database_unavailable', retryAfterSeconds: 5 },
  database_error: { status: 500, error_type: 'database_error' },
  timeout: { status: 504, error_type: 'timeout' },
  internal_error: ours,
  // A pod that runs has these behind it.
  config_invalid: ours,
  port_taken: ours,
  data_dir_unusable: ours,
  postgres_missing: ours,
  postgres_failed: ours,
  postgres_too_old: ours,
  schema_newer: ours,
  schema_older: ours,
} satisfies Record<ErrorCode, Meaning>

export interface Failure {
  status: FailureStatus
  headers: Record<string, string>
  body: Problem
}

const PATH_MAX = 500

/** Any error as an answer. What went wrong with us stays in the log: no text of a cause, a statement or a stack. */
export function failureOf(error: unknown, request: { path: string; requestId: string }): Failure {
  const said = error instanceof FleetError ? error : undefined
  const meaning: Meaning = said ? STATUS[said.code] : ours
  const detail =
    said && meaning.status !== 500
      ? said.message
      : `Something went wrong; request id ${request.requestId} is in the log`
  const retryAfter = said?.retryAfterSeconds ?? meaning.retryAfterSeconds
  const issues = said?.issues ? bounded(said.issues) : undefined
  return {
    status: meaning.status,
    headers: retryAfter === undefined ? {} : { 'retry-after': String(Math.max(1, Math.ceil(retryAfter))) },
    body: {
      detail,
      error: detail,
      error_type: meaning.error_type,
      timestamp: new Date().toISOString(),
      path: request.path.slice(0, PATH_MAX),
      request_id: request.requestId,
      ...(issues && { issues }),
    },
  }
}

function bounded(issues: readonly Issue[]): Issue[] {
  const left = issues.length - ISSUES_MAX
  const shown = issues.slice(0, ISSUES_MAX)
  return left > 0 ? [...shown, { at: '', message: `and ${left} more` }] : shown
}
