import { isUnavailable, sqlState } from '../db/failure.ts'

const AGAIN_MS = 250
const UNIQUE_VIOLATION = '23505'

/**
 * An outage is waited for: the handler stands still meanwhile, and ends with its pod or its time. `again`: it may have
 * happened before, with an answer that was lost.
 */
export async function patiently<T>(ask: (again: boolean) => Promise<T>): Promise<T> {
  for (let again = false; ; again = true)
    try {
      return await ask(again)
    } catch (error) {
      if (sqlState(error) !== UNIQUE_VIOLATION || again) {
        if (!isUnavailable(error)) throw error
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS))
      }
    }
}
