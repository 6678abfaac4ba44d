import { repeatOnConflict, type Database, type Sql } from '../db/connect.ts'
import { sqlState } from '../db/failure.ts'
import { batcher } from '../kernel/batch.ts'
import { pass } from '../kernel/failpoint.ts'
import {
  findArrived,
  findCheckpoints,
  forgetFailure,
  type FailedPlace,
  writeCheckpoints,
  type CheckpointRow,
  type NewCheckpoint,
  type WrittenCheckpoint,
} from './checkpoint.sql.ts'
import { answerWaits, findOutcomes, lockLetters } from '../step/wake.sql.ts'
import { patiently } from './patiently.ts'

/** What the executions of this pod remember: what many of them ask for or write shares statements. */
export interface Checkpoints {
  of(stepId: string): Promise<CheckpointRow[]>
  /** Fulfilled when it is committed; undefined: its claim is gone, or another has written it. */
  write(checkpoint: NewCheckpoint): Promise<WrittenCheckpoint | undefined>
  /** The same within a transaction, beside what a body writes there. No row: its claim is gone. */
  writeIn(tx: Sql, checkpoint: NewCheckpoint): Promise<WrittenCheckpoint[]>
  /** Gives waits of this execution what has come for them. */
  answer(stepId: string): Promise<CheckpointRow[]>
  /** How these steps ended, in their order. */
  outcomes(stepIds: string[]): Promise<Outcome[]>
  forgetFailure(place: FailedPlace): Promise<boolean>
}

export interface Outcome {
  status: string
  result: unknown
  error: { message?: string } | null
}

const FORGOTTEN: Outcome = { status: 'forgotten', result: null, error: null }
const BATCH_MAX = 500
const UNIQUE_VIOLATION = '23505'
/** Whole memories in one answer: some are large. */
const MEMORIES_MAX = 50

export function createCheckpoints(database: Database, podId: string): Checkpoints {
  const of = batcher<string, CheckpointRow[]>({
    batchMax: MEMORIES_MAX,
    async flush(stepIds) {
      const ids = [...new Set(stepIds)]
      return inOrder(stepIds, await database.run((sql) => findCheckpoints(sql, ids)))
    },
  })

  const write = batcher<NewCheckpoint, WrittenCheckpoint | 'refused'>({
    batchMax: BATCH_MAX,
    async flush(rows) {
      const held = pass('checkpoint.before_write')
      if (held) await held
      const undos = rows.filter(({ kind }) => kind === 'undo').map(({ stepId }) => stepId)
      const written = await repeatOnConflict<WrittenCheckpoint[]>(() =>
        undos.length === 0
          ? database.run((sql) => writeCheckpoints(sql, podId, rows))
          : // A cancel locks the letter as well: it sees what is registered here, or this sees its outcome.
            database.begin(async (tx) => {
              await lockLetters(tx, undos, [])
              return [...(await writeCheckpoints(tx, podId, rows))]
            }),
      )
      const met = pass('checkpoint.after_write')
      if (met) await met
      const byKey = new Map(written.map((row) => [keyOf(row.step_id, row), row]))
      return rows.map((row) => byKey.get(keyOf(row.stepId, row)) ?? 'refused')
    },
    // What Postgres refuses of one must not fail the others.
    alone: (error) => /^2[23]/.test(sqlState(error) ?? ''),
  })

  const answer = batcher<string, CheckpointRow[]>({
    batchMax: BATCH_MAX,
    async flush(stepIds) {
      const ids = [...new Set(stepIds)]
      await repeatOnConflict(() =>
        database.begin(async (tx) => {
          await lockLetters(tx, ids, [])
          await answerWaits(tx, ids)
        }),
      )
      return inOrder(stepIds, await database.run((sql) => findArrived(sql, ids)))
    },
  })

  return {
    of: (stepId) => patiently(() => of(stepId)),
    async write(checkpoint) {
      const written = await patiently((again) =>
        write({ ...checkpoint, mayStand: checkpoint.mayStand || again }),
      ).catch((error: unknown) => {
        // Its turn is taken: by an attempt before it, whose last word came late.
        if (sqlState(error) !== UNIQUE_VIOLATION) throw error
        return 'refused' as const
      })
      return written === 'refused' ? undefined : written
    },
    writeIn: (tx, checkpoint) => writeCheckpoints(tx, podId, [checkpoint]),
    answer: (stepId) => patiently(() => answer(stepId)),
    async outcomes(stepIds) {
      const rows = await patiently(() => database.run((sql) => findOutcomes(sql, stepIds)))
      const byId = new Map(rows.map((row) => [row.step_id, row]))
      return stepIds.map((stepId) => {
        const outcome = byId.get(stepId) ?? FORGOTTEN
        // Somebody tries it again: this attempt ends, and the next one waits for it.
        if (outcome.status === 'pending')
          throw new Error(`the step ${stepId} has ended, and is being tried again`)
        return outcome
      })
    },
    forgetFailure: (place) =>
      // Asked again, it may have been forgotten the first time.
      patiently(
        async (again) => (await database.run((sql) => forgetFailure(sql, place))).length > 0 || again,
      ),
  }
}

const keyOf = (stepId: string, { name, number }: { name: string; number: number }) =>
  `${stepId} ${number} ${name}`

function inOrder(stepIds: string[], rows: CheckpointRow[]): CheckpointRow[][] {
  const ofStep = new Map<string, CheckpointRow[]>(stepIds.map((stepId) => [stepId, []]))
  for (const row of rows) ofStep.get(row.step_id)?.push(row)
  return stepIds.map((stepId) => ofStep.get(stepId) ?? [])
}
