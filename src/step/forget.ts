import type { Database } from '../db/connect.ts'
import { forgetHistory, forgetSettled } from './retention.sql.ts'

export interface Forgetter {
  /** One round: bounded work. Returns how many steps were forgotten. */
  round(): Promise<number>
}

const WINDOW = 1000
const WINDOWS_PER_ROUND = 50

/**
 * Retention: forgets the oldest keys, a bounded window at a time. Where a whole window is younger it goes on from where
 * it stopped the last time, round and round: a thousand steps that were delayed for a month and settled today would
 * otherwise lie before everything old for as long as they are kept.
 */
export function createForgetter(database: Database, seconds: number): Forgetter {
  let walked = '0'
  return {
    async round() {
      let forgotten = 0
      let after = '0'
      let atEdge = true
      for (let window = 0; window < WINDOWS_PER_ROUND; window++) {
        const [span] = await database.run((sql) => forgetSettled(sql, seconds, after, WINDOW))
        if (!span?.last) break
        forgotten += span.forgotten
        after = span.last
        if (atEdge && span.forgotten === 0) {
          atEdge = false
          if (BigInt(walked) > BigInt(after)) after = walked
        }
        if (span.looked < WINDOW) after = '0'
        if (!atEdge) walked = after
        if (after === '0') break
      }
      await database.run((sql) => forgetHistory(sql, seconds, WINDOW))
      return forgotten
    },
  }
}
