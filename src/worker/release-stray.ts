import type { Database } from '../db/connect.ts'
import { pass } from '../kernel/failpoint.ts'
import type { Log } from '../kernel/log.ts'
import { findStrayClaims } from '../step/held.sql.ts'
import { settle } from '../step/settle.sql.ts'
import { releaseReport } from './outcome.ts'

/** An exchange that we gave up waiting for may still commit on the server, after the look that followed it. */
const CHECK_MS = 30_000
/** Older than any exchange that may still be answered: its deadline is 10 s. */
const STRAY_SECONDS = 15

interface StrayOptions {
  database: Database
  podId: string
  /** Those that this pod knows of. */
  openClaims(): string[]
  onReleased(): void
  log: Log
}

/** An exchange whose answer was lost may have claimed steps that nobody here knows of: they go back. */
export function createStrayRelease({ database, podId, openClaims, onReleased, log }: StrayOptions) {
  let checkedAt = performance.now()

  async function release(olderThanSeconds: number) {
    checkedAt = performance.now()
    const stray = await database.run((sql) => findStrayClaims(sql, podId, openClaims(), olderThanSeconds))
    if (stray.length === 0) return
    await pass('stray.found')
    const why = 'the answer to its claim was lost'
    const released = stray.flatMap(({ id, step_ids, attempts: numbers }) =>
      step_ids.map((stepId, i) => releaseReport(id, stepId, numbers[i] ?? 1, why)),
    )
    const claims = stray.map(({ id }) => id)
    await database.run((sql) => settle(sql, podId, released, claims))
    await pass('stray.released')
    log.info({ steps: released.length }, 'released steps whose claim was answered to nobody')
    onReleased()
  }

  return {
    /** After a lost answer: all that nobody knows of, while no exchange is under way. */
    releaseAll: () => release(0),
    async ifDue() {
      if (performance.now() - checkedAt > CHECK_MS) await release(STRAY_SECONDS)
    },
  }
}
