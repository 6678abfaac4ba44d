import type { Database } from '../db/connect.ts'
import { pass } from '../kernel/failpoint.ts'
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
  /** Which types are limited now, as each beat tells. True: that has changed. */
  heard(limitedTypes: string[]): boolean
  /** A pod calls out that it has changed. */
  refresh(): Promise<boolean>
  claim(want: Pick<Want, 'podId' | 'limit' | 'turns'>): Promise<LimitedClaim>
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
  function heard(limitedTypes: string[]): boolean {
    const before = limited
    limited = new Set(limitedTypes.filter((type) => types.includes(type)))
    return limited.size !== before.size || [...limited].some((type) => !before.has(type))
  }

  return {
    has: (type) => limited.has(type),
    heard,
    async refresh() {
      if (types.length === 0) return false
      const rows = await database.run((sql) => findLimitedTypes(sql, types))
      return heard(rows.map((row) => row.type))
    },
    async claim(want) {
      if (limited.size === 0 || want.limit <= 0) return { steps: [], contended: false, dropped: false }
      const claimed = await database.begin(async (tx) => {
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
        if (steps.length > 0) await pass('limited.before_commit')
        return { steps, contended: mine.length < limited.size, dropped: steps.length < rows.length }
      })
      if (claimed.steps.length > 0) await pass('limited.after_commit')
      return claimed
    },
  }
}
