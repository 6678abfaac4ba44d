import type { Database } from '../db/connect.ts'
import {
  claimLimited,
  lockLimits,
  type ClaimedStep,
  type DroppedSteps,
  type Want,
} from '../step/claim.sql.ts'
import { findLimitedTypes } from '../step/limit.sql.ts'

/** Claims from types that have a limit for the whole fleet; a pod whose types have none pays nothing. */
export interface LimitedClaims {
  has(type: string): boolean
  /** Which types are limited now: asked at each heartbeat, and when a pod calls out that it has changed. True: it has. */
  refresh(): Promise<boolean>
  claim(want: Pick<Want, 'podId' | 'limit' | 'afterLane'>): Promise<LimitedClaim>
}

interface LimitedClaim {
  steps: ClaimedStep[]
  /** Another pod held the lock of a limit. */
  contended: boolean
  /** Cancelled steps were taken out: there may be others behind them. */
  dropped: boolean
}

export function createLimitedClaims(database: Database, types: string[]): LimitedClaims {
  let limited = new Set<string>()
  return {
    has: (type) => limited.has(type),
    async refresh() {
      if (types.length === 0) return false
      const rows = await database.run((sql) => findLimitedTypes(sql, types))
      const before = limited
      limited = new Set(rows.map((row) => row.type))
      return limited.size !== before.size || [...limited].some((type) => !before.has(type))
    },
    async claim(want) {
      if (limited.size === 0 || want.limit <= 0) return { steps: [], contended: false, dropped: false }
      return database.begin(async (tx) => {
        const mine = await lockLimits(tx, [...limited])
        const rows: (ClaimedStep | DroppedSteps)[] =
          mine.length === 0
            ? []
            : await claimLimited(
                tx,
                want,
                mine.map((row) => row.type),
              )
        const steps = rows.filter((row): row is ClaimedStep => row.kind === 'claimed')
        return { steps, contended: mine.length < limited.size, dropped: steps.length < rows.length }
      })
    },
  }
}
