import { repeatOnConflict, type Database } from '../db/connect.ts'
import { isUnavailable, sqlState } from '../db/failure.ts'
import { batcher } from '../kernel/batch.ts'
import { pass } from '../kernel/failpoint.ts'
import {
  findCheckpoints,
  forgetFailure,
  writeCheckpoints,
  type CheckpointRow,
  type NewCheckpoint,
  type WrittenCheckpoint,
} from './checkpoint.sql.ts'
import { answerWaits, findOutcomes, lockLetters } from '../step/wake.sql.ts'

/** What the executions of this pod remember: what many of them ask for or write shares statements. */
export interface Checkpoints {
  of(stepId: string): Promise<CheckpointRow[]>
  /** Fulfilled when it is committed; undefined: its claim is gone, or another has written it. */
  write(checkpoint: NewCheckpoint): Promise<WrittenCheckpoint | undefined>
  /** Gives waits of this execution what has come for them. */
  answer(stepId: string): Promise<CheckpointRow[]>
  outcome(stepId: string): Promise<{ status: string; result: unknown; error: { message?: string } | null }>
  forgetFailure(stepId: string, name: string, number: number): Promise<boolean>
}

const BATCH_MAX = 500
const AGAIN_MS = 250
const UNIQUE_VIOLATION = '23505'

export function createCheckpoints(database: Database, podId: string): Checkpoints {
  const of = batcher<string, CheckpointRow[]>({
    batchMax: BATCH_MAX,
    async flush(stepIds) {
      return inOrder(stepIds, await database.run((sql) => findCheckpoints(sql, stepIds)))
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
      return inOrder(stepIds, await database.run((sql) => findCheckpoints(sql, ids)))
    },
  })

  /** An outage is waited for: the handler stands still meanwhile, and ends with its pod or its time. */
  async function patiently<T>(ask: (again: boolean) => Promise<T>): Promise<T> {
    for (let again = false; ; again = true)
      try {
        return await ask(again)
      } catch (error) {
        if (sqlState(error) !== UNIQUE_VIOLATION || again) {
          if (!isUnavailable(error)) throw error
          await new Promise((resolve) => setTimeout(resolve, AGAIN_MS))
        }
      }
  }

  return {
    of: (stepId) => patiently(() => of(stepId)),
    async write(checkpoint) {
      const written = await patiently((again) =>
        write({ ...checkpoint, mayStand: checkpoint.mayStand || again }),
      )
      return written === 'refused' ? undefined : written
    },
    answer: (stepId) => patiently(() => answer(stepId)),
    async outcome(stepId) {
      const [outcome] = await patiently(() => database.run((sql) => findOutcomes(sql, [stepId])))
      return outcome ?? { status: 'forgotten', result: null, error: null }
    },
    async forgetFailure(stepId, name, number) {
      const forgotten = await patiently(() => database.run((sql) => forgetFailure(sql, stepId, name, number)))
      return forgotten.length > 0
    },
  }
}

const keyOf = (stepId: string, { name, number }: { name: string; number: number }) =>
  `${stepId} ${number} ${name}`

function inOrder(stepIds: string[], rows: CheckpointRow[]): CheckpointRow[][] {
  const ofStep = new Map<string, CheckpointRow[]>(stepIds.map((stepId) => [stepId, []]))
  for (const row of rows) ofStep.get(row.step_id)?.push(row)
  return stepIds.map((stepId) => ofStep.get(stepId) ?? [])
}
