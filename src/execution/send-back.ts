import type { Actor } from '../access/actor.ts'
import { writeAudit } from '../access/audit.sql.ts'
import { repeatOnConflict, type Database, type Sql } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import { given } from '../step/bulk.ts'
import { dropChildren } from '../step/put-aside.ts'
import { putCheckpointsAside } from '../step/put-aside.sql.ts'
import { statusOf } from '../step/read.ts'
import { putBack, takeOutcomes } from '../step/redrive.ts'
import { lockLetters } from '../step/wake.sql.ts'
import { dropEvents } from './execution.sql.ts'
import { getExecutionStep, keyOfExecution } from './read-execution.ts'
import { findTurns, takeOutOfLater } from './send-back.sql.ts'
import { FAILURE } from './undo.ts'

/** Where it is to go on: at what failed, at a checkpoint by its name, or from the top. */
export type From = 'failure' | 'top' | { name: string; number?: number | undefined }

interface How {
  reason: string | null
  /** Of these names it forgets what it was sent, and has not read by then. */
  withoutEvents: string[]
  onReady(): void
  onCancelled(): void
}

/**
 * An execution that has ended without success, or stands still, goes on from an earlier place. What it remembers before
 * that it keeps; the rest is put aside, for people to look at.
 */
export async function sendBack(
  database: Database,
  actor: Actor,
  executionId: string,
  from: From,
  { reason, withoutEvents, onReady, onCancelled }: How,
): Promise<void> {
  const { id } = await database.run((sql) => keyOfExecution(sql, executionId))
  const dropped = await repeatOnConflict(() =>
    database.begin(async (tx) => {
      await lockLetters(tx, [id], [])
      const [ended] = await takeOutcomes(tx, [id])
      const [standing] = ended ? [] : await takeOutOfLater(tx, id)
      const taken = standing ?? ended
      if (!taken) throw await notPossible(tx, executionId)
      if (standing && from === 'top' && (await findTurns(tx, id, FAILURE)).length > 0)
        throw new FleetError('wrong_state', 'It is being undone. Retry it, and it goes on with that.')
      const cancelled = from === 'failure' ? 0 : await forgetFrom(tx, id, from)
      // Where it stands still nothing has failed for good.
      await putBack(tx, [taken], from === 'failure' && ended !== undefined)
      if (withoutEvents.length > 0) await dropEvents(tx, id, withoutEvents)
      const events = withoutEvents.length > 0 ? withoutEvents : null
      await writeAudit(
        tx,
        actor,
        executionId,
        given({ from, reason, cancelled: cancelled || null, without_events: events }),
      )
      return cancelled
    }),
  )
  onReady()
  if (dropped > 0) onCancelled()
}

/** Answers how many steps that it had submitted since then are cancelled with this. */
const forgetFrom = async (tx: Sql, id: string, from: Exclude<From, 'failure'>) =>
  dropChildren(tx, await putCheckpointsAside(tx, id, from === 'top' ? 0 : await turnOf(tx, id, from)))

async function turnOf(tx: Sql, id: string, { name, number }: { name: string; number?: number | undefined }) {
  const rows = await findTurns(tx, id, name)
  if (rows.some((row) => row.name === FAILURE))
    throw new FleetError(
      'wrong_state',
      'What it had done has been undone, so it cannot go on in the middle. Restart it, from the top.',
    )
  const [first, second] = rows
  if (!first)
    throw new FleetError('invalid_input', `It remembers nothing of the name "${name}".`, {
      issues: [
        { at: 'from', message: 'is no checkpoint that has a result; GET the execution lists them as steps' },
      ],
    })
  if (number === undefined && second)
    throw new FleetError('invalid_input', `It came by "${name}" ${rows.length} times.`, {
      issues: [{ at: 'number', message: `says which of them is meant: 1 to ${rows.length}` }],
    })
  const chosen = number === undefined ? first : rows.find((row) => row.number === number)
  if (chosen) return chosen.turn
  throw new FleetError('invalid_input', `It came by "${name}" ${rows.length} times.`, {
    issues: [{ at: 'number', message: `must be 1 to ${rows.length}` }],
  })
}

async function notPossible(tx: Sql, executionId: string): Promise<FleetError> {
  const step = await getExecutionStep(tx, executionId)
  const status = statusOf(step)
  const why =
    status === 'completed'
      ? 'is completed; rerun it, which starts another with the same input'
      : step.outcome !== null
        ? `is ${status}, but a pod has not let go of it yet; try again in a moment`
        : 'runs, or is about to; cancel it first, or pause it and try again when it stands still'
  return new FleetError('wrong_state', `Execution '${executionId}' ${why}.`)
}
