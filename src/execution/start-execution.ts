import type { Database } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import type { StepWish } from '../step/step.ts'
import type { Submitter } from '../step/submit.ts'
import type { StartExecution } from './execution.schema.ts'
import { findExecutionKey } from './execution.sql.ts'

export interface StartParts {
  database: Database
  submitter: Submitter
  /** Throws where the input does not fit the type. */
  check(wish: Pick<StepWish, 'type' | 'args'>): void
}

/** The same id started again is the same execution, whatever else is asked for. */
export async function startExecution(
  { database, submitter, check }: StartParts,
  wish: StartExecution,
): Promise<{ executionId: string; isNew: boolean }> {
  const { execution_id, executionId, task_name, taskName, payload, ...rest } = wish
  const name = execution_id ?? executionId
  const type = task_name ?? taskName ?? ''
  if (name !== undefined && (await isKnown(name))) return { executionId: name, isNew: false }
  const step = { type, args: payload, ...rest }
  check(step)
  try {
    const { stepIds } = await submitter.submit([step], undefined, name === undefined ? {} : { name })
    return { executionId: name ?? stepIds[0] ?? '', isNew: true }
  } catch (error) {
    // Somebody else was quicker.
    if (name === undefined || !(error instanceof FleetError) || error.code !== 'name_taken') throw error
    return { executionId: name, isNew: false }
  }

  async function isKnown(id: string): Promise<boolean> {
    return (await database.run((sql) => findExecutionKey(sql, id))).length > 0
  }
}
