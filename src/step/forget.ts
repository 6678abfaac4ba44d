import type { Database } from '../db/connect.ts'
import { forgetHistory, forgetSettled } from './retention.sql.ts'

export interface Forgetter {
  /** One round: bounded work. Returns how many steps were forgotten. */
  round(): Promise<number>
}

const WINDOW = 1000
const WINDOWS_PER_ROUND = 50

/** Retention: walks the settled steps from the oldest key, a bounded window at a time, and starts again at its end. */
export function createForgetter(database: Database, seconds: number): Forgetter {
  let after = '0'
  return {
    async round() {
      let forgotten = 0
      for (let window = 0; window < WINDOWS_PER_ROUND; window++) {
        const [span] = await database.run((sql) => forgetSettled(sql, seconds, after, WINDOW))
        if (!span?.last || span.looked < WINDOW) {
          forgotten += span?.forgotten ?? 0
          after = '0'
          break
        }
        forgotten += span.forgotten
        after = span.last
        // Keys grow with time: a whole window of younger steps means that nothing old follows soon.
        if (span.forgotten === 0) {
          after = '0'
          break
        }
      }
      await database.run((sql) => forgetHistory(sql, seconds, WINDOW))
      return forgotten
    },
  }
}
