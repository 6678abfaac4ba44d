import { backoffMs, DEFAULT_BACKOFF } from '../kernel/backoff.ts'
import { pass } from '../kernel/failpoint.ts'
import { describeError, isNonRetryable, json } from '../step/describe.ts'
import type { RunContext, RunOptions } from '../step/durable.ts'
import { newCheckpoint, type CheckpointError, type NewCheckpoint } from './checkpoint.sql.ts'
import type { Memory } from './memory.ts'

/** What is to be done should the execution fail. */
export interface Undo {
  name: string
  number: number
  undo: (run: RunContext) => unknown
  options: RunOptions
}

export interface Undone {
  /** Why it was undone. */
  error: CheckpointError
  /** What could not be. */
  left: { name: string; message: string }[]
}

/** Tries of one, where it does not say itself. */
const TRIES_AGAIN = 5
export const FAILURE = '$failure'

/** That an execution has failed, or was cancelled: from here on it is undone, and nothing more is done. */
export const failureOf = (
  { stepId, claimId }: { stepId: string; claimId: string },
  turn: number,
  error: string | null,
  mayStand: boolean,
): NewCheckpoint =>
  newCheckpoint({
    claimId,
    stepId,
    name: FAILURE,
    number: 1,
    kind: 'failure',
    turn,
    after: turn - 1,
    error,
    mayStand,
  })

/** The last first, each remembered: a pod that dies meanwhile leaves the rest to the next. */
export async function undoAll(memory: Memory, undos: readonly Undo[]): Promise<Undone | undefined> {
  const failed = await memory.failure()
  if (!failed) return undefined
  const { checkpoints, signal, ...at } = memory.options
  const error = failed.row.error ?? { class: 'Failed', message: 'it failed' }
  const left: Undone['left'] = []
  if (failed.row.turn === null) {
    const noticed = await checkpoints.write(failureOf(at, memory.takeTurn(), json(error), true))
    if (!noticed) return undefined
  }
  let turn = Math.max(failed.row.turn ?? 0, memory.takeTurn(), ...failed.since.map((row) => row.turn ?? 0))
  await pass('undo.before')
  for (const each of undos.toReversed()) {
    const name = `${each.name}/undo`
    const before = failed.since.find((row) => row.name === name && row.number === each.number)
    const why = before ? before.error?.message : await tryUndo(each)
    if (!before) await pass('undo.after')
    if (!before) {
      turn++
      const written = await checkpoints.write({
        ...failureOf(at, turn, why === undefined ? null : json({ class: 'UndoFailed', message: why }), false),
        name,
        number: each.number,
        kind: 'run',
      })
      if (!written) return undefined
    }
    if (why !== undefined) left.push({ name: each.name, message: why })
  }
  return { error, left }

  async function tryUndo({ undo, options: { retry } }: Undo): Promise<string | undefined> {
    const backoff = { ...DEFAULT_BACKOFF, ...retry }
    for (let attempt = 1; ; attempt++) {
      try {
        await undo({ attempt, signal })
        return undefined
      } catch (thrown) {
        signal.throwIfAborted()
        if (isNonRetryable(thrown) || attempt > (retry?.max ?? TRIES_AGAIN))
          return describeError(thrown).message
        await new Promise((resolve) => setTimeout(resolve, backoffMs(backoff, attempt, Math.random())))
      }
    }
  }
}
