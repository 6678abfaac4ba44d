import type { Database } from '../db/connect.ts'
import { sqlState } from '../db/failure.ts'
import { FleetError } from '../errors.ts'
import { pass } from '../kernel/failpoint.ts'
import { sendEvent } from './execution.sql.ts'
import { keyOfExecution } from './read-execution.ts'

const MEANINGS = {
  P0002: 'execution_not_found',
  '55000': 'wrong_state',
  '53400': 'rate_limited',
} as const

/** Kept until the execution asks for it. True: it was asleep over it, and goes on. */
export async function offerEvent(
  database: Database,
  executionId: string,
  name: string,
  payload: unknown,
): Promise<boolean> {
  const key = await database.run((sql) => keyOfExecution(sql, executionId))
  try {
    await pass('event.before')
    const [row] = await database.run((sql) => sendEvent(sql, key.id, name, JSON.stringify(payload ?? null)))
    await pass('event.after')
    return row?.delivered ?? false
  } catch (error) {
    const state = sqlState(error)
    const code =
      state !== undefined && state in MEANINGS ? MEANINGS[state as keyof typeof MEANINGS] : undefined
    // Postgres has the sentence; the door's database has put words of its own before it.
    const said = error instanceof FleetError ? error.cause : error
    if (code && said instanceof Error)
      throw new FleetError(code, `Event "${name}" was not kept for '${executionId}': ${said.message}.`, {
        cause: error,
      })
    throw error
  }
}
