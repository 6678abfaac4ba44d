import type { Database, Sql } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import { decodeCursor, encodeCursor } from '../kernel/cursor.ts'
import { findAttempts, findStep, listSteps, type ListFilter, type StepRow } from '../step/read.sql.ts'
import { errorOf, LIST_WINDOW, statusOf } from '../step/read.ts'
import type { StepKey } from '../step/step.ts'
import type { Execution } from './execution.schema.ts'
import {
  findExecutionKey,
  findLives,
  findNamed,
  showCheckpoints,
  type Life,
  type ShownCheckpoint,
} from './execution.sql.ts'

export const CHECKPOINTS_SHOWN_MAX = 1000
const OUTCOMES = {
  completed: 'success',
  failed: 'failed',
  cancelled: 'cancelled',
  skipped: 'skipped',
  claimed: 'running',
  pending: 'queued',
} as const

export async function keyOfExecution(sql: Sql, executionId: string): Promise<StepKey> {
  const [key] = await findExecutionKey(sql, executionId)
  if (key) return key
  throw new FleetError(
    'execution_not_found',
    `execution '${executionId.slice(0, 100)}' not found: it was never started here, or is past its retention`,
  )
}

export async function getExecutionStep(sql: Sql, executionId: string): Promise<StepRow> {
  const [step] = await findStep(sql, await keyOfExecution(sql, executionId))
  if (step) return step
  throw new FleetError(
    'execution_not_found',
    `execution '${executionId.slice(0, 100)}' has just been forgotten`,
  )
}

/** Of the execution that is called so; an id that names none is handed on as it is. */
export const stepIdOf = (database: Database, id: string): Promise<string> =>
  id.startsWith('step_')
    ? Promise.resolve(id)
    : database.run(async (sql) => {
        const [named] = await findNamed(sql, id)
        return named?.step_id ?? id
      })

export const describeExecution = (database: Database, executionId: string): Promise<Execution> =>
  database.run(async (sql) => {
    const step = await getExecutionStep(sql, executionId)
    const [[life], checkpoints, [attempt]] = await Promise.all([
      findLives(sql, [step.id]),
      showCheckpoints(sql, step.id, CHECKPOINTS_SHOWN_MAX),
      findAttempts(sql, step.id, 1),
    ])
    const error = step.outcome === null ? attempt?.error : step.error
    return {
      ...toExecution(step, life),
      error: errorOf(error),
      waiting_for: step.outcome === null ? checkpoints.filter(({ turn }) => turn === null).map(waitOf) : [],
      steps: checkpoints.map(toCheckpoint),
    }
  })

export async function pageOfExecutions(
  database: Database,
  filter: {
    status: string | null
    type: string | null
    tag: string | null
    key: string | null
    attention: boolean
  },
  paging: { limit: number; offset: number; cursor?: string | undefined },
): Promise<{ executions: Execution[]; next: string | null }> {
  const { status, type, tag, key, attention } = filter
  const full: ListFilter = {
    // Found by an index of their own.
    status: status === 'failed' ? status : null,
    executionStatus: status,
    attention,
    type,
    tag,
    key,
    pod: null,
    olderThanSeconds: null,
    newerThanSeconds: null,
  }
  const before = decodeCursor(paging.cursor)
  const wanted = paging.limit + paging.offset
  return database.run(async (sql) => {
    const rows = await listSteps(sql, full, before, LIST_WINDOW, wanted)
    const found = rows.filter((row) => row.id !== null)
    const [edge] = rows
    const last = found.length === wanted ? found.at(-1)?.id : edge?.window_full ? edge.window_end : undefined
    const page = found.slice(paging.offset)
    const lives = await findLives(
      sql,
      page.map((step) => step.id),
    )
    return {
      executions: page.map((step, i) => toExecution(step, lives[i])),
      next: last === undefined ? null : encodeCursor(last),
    }
  })
}

function toExecution(step: StepRow, life: Life | undefined): Execution {
  const startedAt = life?.first_start ?? step.outcome_started_at ?? step.taken_at
  const attempt = step.outcome_attempt ?? step.claim_attempt ?? step.later_attempt ?? 1
  const changedAt = step.settled_at ?? step.taken_at ?? life?.first_start ?? step.created_at
  return {
    execution_id: life?.name ?? step.step_id,
    step_id: step.step_id,
    task_name: step.type,
    task_id: null,
    status: statusOfExecution(step, startedAt !== null),
    outcome: OUTCOMES[statusOf(step)],
    rerun_of: life?.rerun_of ?? null,
    payload: step.args,
    result: step.result ?? null,
    error: null,
    attention: step.later_why === 'attention' ? (life?.attention ?? '') : null,
    waiting_for: step.outcome === null ? (life?.waiting_for ?? []) : [],
    worker_id: step.pod,
    retry_number: Math.max(attempt - 1, 0),
    is_retry: attempt > 1,
    created_at: step.created_at.toISOString(),
    scheduled_at: (step.due_at ?? (startedAt === null ? step.run_at : null))?.toISOString() ?? null,
    started_at: startedAt?.toISOString() ?? null,
    completed_at: step.settled_at?.toISOString() ?? null,
    duration_ms: step.settled_at && startedAt ? step.settled_at.getTime() - startedAt.getTime() : null,
    updated_at: changedAt.toISOString(),
    steps: [],
  }
}

function statusOfExecution(step: StepRow, isStarted: boolean): Execution['status'] {
  if (step.outcome !== null) return step.outcome === 'skipped' ? 'cancelled' : step.outcome
  return isStarted || step.claim_id !== null ? 'running' : 'scheduled'
}

const waitOf = ({ name, kind, child }: ShownCheckpoint) =>
  kind === 'result' && child !== null ? child : name

export function toCheckpoint(row: ShownCheckpoint): Execution['steps'][number] {
  return {
    name: row.name,
    number: row.number,
    kind: row.kind,
    status: row.turn === null ? 'open' : row.error === null ? 'completed' : 'failed',
    failures: row.failures,
    due_at: row.due_at?.toISOString() ?? null,
    completed_at: row.turn === null ? null : row.at.toISOString(),
    child_id: row.child,
    // Of an open wait for many it is the list of their keys.
    result: row.turn === null ? null : (row.result ?? null),
    error: row.error,
  }
}
