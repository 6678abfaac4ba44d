import type { Database } from '../db/connect.ts'
import { pass } from '../kernel/failpoint.ts'
import { forgetHistory, forgetSettled } from './retention.sql.ts'

export interface Forgetter {
  /** One round: bounded work. `more`: it stopped at its bound, and was still finding what to forget. */
  round(): Promise<{ forgotten: number; more: boolean }>
}

const WINDOW = 1000
/** 15 ms a window on two cores: recovery, which waits for a round, is not held up for long. */
const WINDOWS_PER_ROUND = 20

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
      let more = false
      let after = '0'
      let atEdge = true
      for (let window = 0; window < WINDOWS_PER_ROUND; window++) {
        await pass('retention.before')
        const [span] = await database.run((sql) => forgetSettled(sql, seconds, after, WINDOW))
        more = false
        await pass('retention.after')
        if (!span?.last) {
          walked = '0'
          break
        }
        forgotten += span.forgotten
        more = span.forgotten > 0
        after = span.last
        if (atEdge && span.forgotten === 0) {
          atEdge = false
          if (BigInt(walked) > BigInt(after)) after = walked
        }
        if (!atEdge) walked = after
        if (span.looked < WINDOW) {
          walked = '0'
          more = false
          break
        }
      }
      await database.run((sql) => forgetHistory(sql, seconds, WINDOW))
      return { forgotten, more }
    },
  }
}
