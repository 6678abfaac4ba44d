import type { Actor } from '../access/actor.ts'
import { writeAudit } from '../access/audit.sql.ts'
import { repeatOnConflict, type Database, type Sql } from '../db/connect.ts'
import { given } from '../step/bulk.ts'
import { claimsUnderWay } from '../step/pause.ts'
import { findLives } from './execution.sql.ts'
import {
  addExecutionPause,
  endExecutionPause,
  findEndedPauses,
  goOnAfterPauses,
  type ExecutionPause,
} from './pause.sql.ts'
import { keyOfExecution } from './read-execution.ts'

export interface ExecutionPauseWish {
  /** An id, or a pattern with * for any characters. */
  execution: string
  until: string | null
  reason: string | null
}

/**
 * One that runs stops at its next checkpoint, what sleeps or waits does so where it would go on. When this answers, every
 * claim knows it.
 */
export async function pauseExecutions(
  database: Database,
  actor: Actor,
  wish: ExecutionPauseWish,
  onPaused: () => Promise<void>,
): Promise<ExecutionPause | undefined> {
  const row = await database.begin(async (tx) => {
    const [added] = await addExecutionPause(tx, { ...wish, ...(await nameOf(tx, wish.execution)) })
    await writeAudit(tx, actor, wish.execution, given(wish))
    return added
  })
  await claimsUnderWay(database)
  await onPaused()
  return row
}

/** Answers whether there was a pause of exactly this; what another holds stays where it is. */
export async function resumeExecutions(
  database: Database,
  actor: Actor,
  wish: { execution: string; reason: string | null },
  onReady: () => void,
): Promise<boolean> {
  const ended = await database.begin(async (tx) => {
    const { execution } = await nameOf(tx, wish.execution)
    const rows = await endExecutionPause(tx, execution)
    if (rows.length > 0) await writeAudit(tx, actor, wish.execution, given(wish))
    return rows.length > 0
  })
  await endPauses(database, onReady)
  return ended
}

/**
 * What is held by pauses that are over goes on. Also a chore of the leader: whoever ended one may have died before this. A
 * claim that began before its end may yet put something off for it, so it is forgotten when all of those have ended.
 * Answers whether some remain.
 */
export async function endPauses(database: Database, onReady: () => void): Promise<boolean> {
  const ended = (await database.run(findEndedPauses)).map(({ execution }) => execution)
  if (ended.length === 0) return false
  const isSure = await claimsUnderWay(database)
  // Whoever promotes what is due takes the same rows, in another order.
  const gone = await repeatOnConflict(() => database.run((sql) => goOnAfterPauses(sql, ended, isSure)))
  if (gone.length > 0) onReady()
  return !isSure
}

/** One execution has one name here, however it was asked for. */
async function nameOf(sql: Sql, execution: string): Promise<{ execution: string; stepId: string | null }> {
  if (execution.includes('*')) return { execution, stepId: null }
  const { id } = await keyOfExecution(sql, execution)
  const [life] = await findLives(sql, [id])
  return { execution: life?.name ?? execution, stepId: id }
}
