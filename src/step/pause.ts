import type { Actor } from '../access/actor.ts'
import { writeAudit } from '../access/audit.sql.ts'
import type { Database } from '../db/connect.ts'
import { sqlState } from '../db/failure.ts'
import { pass } from '../kernel/failpoint.ts'
import { wishDrain } from '../pod/pod.sql.ts'
import { given } from './bulk.ts'
import { addPause, removePause, waitForClaims, type PauseRow, type PauseWish } from './queue.sql.ts'

/** Claims take milliseconds. Longer, and those behind us in the line would be held up. */
const PATIENCE_MS = 1000
const LOCK_NOT_TO_BE_HAD = '55P03'

/** Lets no step of a type, a key, or both be claimed. When this answers, every claim knows it. */
export async function pause(
  database: Database,
  actor: Actor,
  wish: PauseWish,
): Promise<PauseRow | undefined> {
  const row = await database.begin(async (tx) => {
    const [added] = await addPause(tx, wish)
    await writeAudit(tx, actor, wish.type, given(wish))
    return added
  })
  await pass('pause.between')
  await claimsUnderWay(database)
  return row
}

/** Answers whether there was a pause of exactly this. */
export const resume = (
  database: Database,
  actor: Actor,
  wish: { type: string | null; key: string | null },
): Promise<boolean> =>
  database.begin(async (tx) => {
    const removed = await removePause(tx, wish)
    if (removed.length > 0) await writeAudit(tx, actor, wish.type, given(wish))
    return removed.length > 0
  })

/** A pod takes no further steps, or takes them again. Answers whether it lives. */
export async function drain(
  database: Database,
  actor: Actor,
  podId: string,
  wanted: boolean,
  onWish: () => void,
): Promise<boolean> {
  const lives = await database.begin(async (tx) => {
    const [pod] = await wishDrain(tx, podId, wanted)
    if (pod) await writeAudit(tx, actor, podId, { drain: wanted })
    return pod !== undefined
  })
  if (!lives) return false
  onWish()
  await claimsUnderWay(database)
  return true
}

/**
 * Fulfilled when every claim has ended that had begun before: what was committed until now holds for all others. Where
 * somebody reads the table for long (a dump takes such a lock) it gives up waiting; then a claim that had begun before
 * may still come, within the milliseconds that a claim takes. Answers which of the two.
 */
export async function claimsUnderWay(database: Database): Promise<boolean> {
  try {
    await database.begin((tx) => waitForClaims(tx, PATIENCE_MS))
    return true
  } catch (error) {
    if (sqlState(error) !== LOCK_NOT_TO_BE_HAD) throw error
    return false
  }
}
