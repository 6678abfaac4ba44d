import type { Database, Sql } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import { decodeCursor, encodeCursor } from '../kernel/cursor.ts'
import {
  findAttempts,
  findLogs,
  findPosition,
  findProgress,
  findStep,
  listSteps,
  type AttemptRow,
  type ListFilter,
  type StepRow,
} from './read.sql.ts'
import { parsePublicId, type StepStatus as Status, type Tray } from './step.ts'
import type { StepStatus } from './step.schema.ts'

const ATTEMPTS_SHOWN_MAX = 100
export const POSITION_MAX = 10_000
/** Steps that one page of a list looks at, at most. */
export const LIST_WINDOW = 10_000

/** The step of this public id, or the error that says there is none. */
export async function getStep(sql: Sql, stepId: string): Promise<StepRow> {
  const key = parsePublicId(stepId)
  const [step] = key ? await findStep(sql, key) : []
  if (!step || step.step_id !== stepId)
    throw new FleetError(
      'step_not_found',
      `There is no step "${stepId.slice(0, 100)}". It may be past its retention, or never have been submitted here.`,
    )
  return step
}

/** What is in `later`, and no clock alone moves on. */
const HELD = new Set(['wait', 'attention', 'pause'])

export const trayOf = (step: StepRow): Tray =>
  step.outcome !== null
    ? 'settled'
    : step.claim_id !== null
      ? 'claimed'
      : step.later_why === null
        ? 'ready'
        : HELD.has(step.later_why)
          ? 'held'
          : 'later'

export const statusOf = (step: StepRow): Status =>
  step.outcome ?? (step.claim_id === null ? 'pending' : 'claimed')

export const describeStep = (database: Database, stepId: string): Promise<StepStatus> =>
  database.run(async (sql) => {
    const step = await getStep(sql, stepId)
    const tray = trayOf(step)
    // Sent together: postgres.js pipelines them.
    const [attempts, [progress], [position]] = await Promise.all([
      findAttempts(sql, step.id, ATTEMPTS_SHOWN_MAX),
      findProgress(sql, step.id),
      tray === 'ready'
        ? findPosition(sql, { id: step.id, laneId: step.lane_id, priority: step.priority }, POSITION_MAX)
        : [],
    ])
    return {
      ...summarize(step, attempts[0]?.ended_at),
      payload: { type: step.type, args: step.args, metadata: step.metadata ?? {} },
      result: step.result ?? null,
      // Of the outcome; while there is none, of the last attempt: that is what somebody who looks wants to know.
      error: errorOf(step.outcome === null ? attempts[0]?.error : step.error),
      attempts: [...attempts.toReversed().map(describeAttempt), ...currentAttempt(step)],
      progress: progress
        ? { percent: progress.percent, message: progress.message, at: progress.at.toISOString() }
        : null,
      queue_position: position?.ahead === null || position === undefined ? null : position.ahead + 1,
    }
  })

export async function pageOfSteps(
  database: Database,
  filter: Partial<ListFilter>,
  paging: { limit: number; cursor?: string | undefined },
) {
  const full: ListFilter = {
    status: null,
    type: null,
    tag: null,
    pod: null,
    key: null,
    olderThanSeconds: null,
    newerThanSeconds: null,
    ...filter,
  }
  const before = decodeCursor(paging.cursor)
  const rows = await database.run((sql) => listSteps(sql, full, before, LIST_WINDOW, paging.limit))
  // The window always answers with a row; its columns of a step are null when none in it fits.
  const steps = rows.filter((row) => row.id !== null)
  const [edge] = rows
  const last =
    steps.length === paging.limit ? steps.at(-1)?.id : edge?.window_full ? edge.window_end : undefined
  return {
    steps: steps.map((step) => ({ ...summarize(step), type: step.type })),
    next_cursor: last === undefined ? null : encodeCursor(last),
  }
}

export const pageOfLogs = (
  database: Database,
  stepId: string,
  query: { attempt?: number | undefined; limit: number; cursor?: string | undefined },
) =>
  database.run(async (sql) => {
    const step = await getStep(sql, stepId)
    const after = decodeCursor(query.cursor) ?? '0'
    const lines = await findLogs(sql, step.id, query.attempt ?? null, after, query.limit)
    return {
      step_id: stepId,
      logs: lines.map(({ at, attempt, level, message, data }) => ({
        at: at.toISOString(),
        attempt,
        level: level as 'info',
        message,
        ...(data === null ? {} : { data }),
      })),
      next_cursor: lines.length === query.limit ? encodeCursor(String(Number(after) + lines.length)) : null,
    }
  })

function summarize(step: StepRow, attemptEndedAt?: Date) {
  const attempt = step.outcome_attempt ?? step.claim_attempt ?? step.later_attempt
  const changedAt = step.settled_at ?? step.taken_at ?? attemptEndedAt ?? step.created_at
  return {
    step_id: step.step_id,
    status: statusOf(step),
    tray: trayOf(step),
    claimed_by: step.pod,
    priority: step.priority,
    retry_count: Math.max((attempt ?? 1) - 1, 0),
    max_retries: step.max_retries,
    created_ts: step.created_at.toISOString(),
    last_update_ts: changedAt.toISOString(),
    key: step.lane_key === '' ? null : step.lane_key,
    tags: step.tags ?? [],
    run_at: (step.due_at ?? step.run_at)?.toISOString() ?? null,
    expires_at: step.expires_at?.toISOString() ?? null,
  }
}

/** As the schema has it: whatever was stored, with a message. */
export function errorOf(error: Record<string, unknown> | null | undefined) {
  if (!error) return null
  const message = error['message']
  return { ...error, message: typeof message === 'string' ? message : '' }
}

const describeAttempt = (row: AttemptRow): StepStatus['attempts'][number] => ({
  attempt: row.attempt,
  pod_id: row.pod,
  ended: row.ended as 'failed',
  started_at: row.started_at.toISOString(),
  ended_at: row.ended_at.toISOString(),
  error: errorOf(row.error),
})

/** The attempt that runs now, or the one that gave the outcome. */
function currentAttempt(step: StepRow): StepStatus['attempts'] {
  if (step.outcome !== null && (step.outcome_attempt ?? 0) > 0)
    return [
      {
        attempt: step.outcome_attempt ?? 1,
        pod_id: step.pod,
        ended: step.outcome,
        started_at: step.outcome_started_at?.toISOString() ?? null,
        ended_at: step.settled_at?.toISOString() ?? null,
        error: errorOf(step.error),
      },
    ]
  if (step.outcome === null && step.claim_attempt !== null)
    return [
      {
        attempt: step.claim_attempt,
        pod_id: step.pod,
        ended: null,
        started_at: step.taken_at?.toISOString() ?? null,
        ended_at: null,
        error: null,
      },
    ]
  return []
}
