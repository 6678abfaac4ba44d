import type { Database } from '../db/connect.ts'
import { describeStep } from '../step/read.ts'
import type { ExecutionHistory } from './execution.schema.ts'
import { findEvents, findReruns, showCheckpoints, showPastCheckpoints } from './execution.sql.ts'
import { CHECKPOINTS_SHOWN_MAX, getExecutionStep, toCheckpoint } from './read-execution.ts'

/** Everything that is kept of an execution, with what was put aside. */
export async function readHistory(database: Database, executionId: string): Promise<ExecutionHistory> {
  const step = await database.run((sql) => getExecutionStep(sql, executionId))
  const [{ attempts }, checkpoints, past, events, reruns] = await Promise.all([
    describeStep(database, step.step_id),
    database.run((sql) => showCheckpoints(sql, step.id, CHECKPOINTS_SHOWN_MAX)),
    database.run((sql) => showPastCheckpoints(sql, step.id, CHECKPOINTS_SHOWN_MAX)),
    database.run((sql) => findEvents(sql, step.id, CHECKPOINTS_SHOWN_MAX)),
    database.run((sql) => findReruns(sql, step.id)),
  ])
  const aside = new Map<string, ExecutionHistory['steps']>()
  for (const row of past) {
    const at = row.put_aside_at.toISOString()
    aside.set(at, [...(aside.get(at) ?? []), toCheckpoint(row)])
  }
  return {
    execution_id: executionId,
    step_id: step.step_id,
    attempts,
    steps: checkpoints.map(toCheckpoint),
    put_aside: [...aside].map(([at, steps]) => ({ at, steps })),
    events: events.map(({ name, payload, sent_at, taken_by }) => ({
      event_name: name,
      payload,
      sent_at: sent_at.toISOString(),
      taken_by,
    })),
    reruns: reruns.map(({ execution_id }) => execution_id),
  }
}
