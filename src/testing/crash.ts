import { setImmediate as nextTurn } from 'node:timers/promises'
import { repeatOnConflict, type Database, type Sql } from '../db/connect.ts'
import type { NewCheckpoint } from '../execution/checkpoint.sql.ts'
import type { ExecutionParts } from '../execution/open-execution.ts'
import { putBack } from '../recovery/recovery.sql.ts'
import { POISON_AFTER } from '../step/step.ts'
import { answerParents, lockLetters } from '../step/wake.sql.ts'
import { callDue, callFront } from './clock.ts'
import { findOrphan } from './test-fleet.sql.ts'

/** Before its checkpoint is written, or right after. */
export type CrashTime = 'before' | 'after'

/**
 * Attempts that die at a named checkpoint as they would with their pod, though their pod lives on: other tests run on it.
 * Their step is put back by the statement of recovery itself. What they do after that is written nowhere.
 */
export interface Crashes {
  /** The next time that this step comes to that checkpoint. */
  at(stepId: string, checkpoint: string, when: CrashTime): void
  /** The checkpoint that it has not come to since. */
  awaited(stepId: string): string | undefined
  /** Stands between executions and what they remember. */
  standBetween(parts: ExecutionParts): ExecutionParts
}

type Place = Pick<NewCheckpoint, 'stepId' | 'claimId'>

const attemptOf = ({ stepId, claimId }: Place) => `${stepId} ${claimId}`

export function createCrashes(database: Database): Crashes {
  const armed = new Map<string, { checkpoint: string; when: CrashTime }>()
  /** Attempts that die at the next thing that they write: the transaction that they came in had to end first. */
  const doomed = new Set<string>()
  const dead = new Set<string>()

  /** A checkpoint that is open is not written yet: a sleep has begun, a body has failed and is tried again. */
  function timeOf({ stepId, name, turn }: NewCheckpoint): CrashTime | undefined {
    const its = armed.get(stepId)
    if (its?.checkpoint !== name || turn === null) return undefined
    armed.delete(stepId)
    return its.when
  }

  /** Answers that nothing was written, at which an attempt ends. */
  function die(place: Place): Promise<undefined> {
    dead.add(attemptOf(place))
    return new Promise((resolve, reject) => {
      recover(database, place, () => resolve(undefined)).catch(reject)
    })
  }

  return {
    at: (stepId, checkpoint, when) => void armed.set(stepId, { checkpoint, when }),
    awaited: (stepId) => armed.get(stepId)?.checkpoint,
    standBetween({ checkpoints, transactions, ...parts }) {
      /** Transactions that commit, and whose attempts die right after. */
      const last = new WeakMap<Sql, string>()
      return {
        ...parts,
        checkpoints: {
          ...checkpoints,
          async write(checkpoint) {
            const attempt = attemptOf(checkpoint)
            if (dead.has(attempt)) return undefined
            if (doomed.has(attempt)) return die(checkpoint)
            const when = timeOf(checkpoint)
            if (when === undefined) return checkpoints.write(checkpoint)
            if (when === 'after') await checkpoints.write(checkpoint)
            return die(checkpoint)
          },
          async writeIn(tx, checkpoint) {
            const attempt = attemptOf(checkpoint)
            if (dead.has(attempt)) return []
            const when = timeOf(checkpoint)
            if (when === 'before') {
              doomed.add(attempt)
              throw new Died()
            }
            if (when === 'after') last.set(tx, attempt)
            return checkpoints.writeIn(tx, checkpoint)
          },
        },
        transactions: {
          async begin(work, limitMs) {
            let attempt: string | undefined
            const done = await transactions.begin(async (tx) => {
              const worked = await work(tx)
              attempt = last.get(tx)
              return worked
            }, limitMs)
            if (attempt === undefined) return done
            doomed.add(attempt)
            throw new Died()
          },
        },
      }
    },
  }
}

/** Its attempt takes it for a failure of the body, and dies when it comes to write that. */
class Died extends Error {
  constructor() {
    super('the test lets this attempt die here')
  }
}

/** What recovery does with a step whose pod died; the rest of the claim lives on. */
async function recover(database: Database, { stepId, claimId }: Place, onPutBack: () => void) {
  await repeatOnConflict(() =>
    database.begin(async (tx) => {
      const orphans = await findOrphan(tx, claimId, stepId)
      if (orphans.length > 0) {
        await lockLetters(tx, [], [stepId])
        // No spread: nobody waits in a test for what is innocent to part from what kills.
        const fates = await putBack(tx, orphans, POISON_AFTER, 0)
        if (fates.some(({ fate }) => fate === 'terminal')) await answerParents(tx, [stepId])
      }
      // The attempt leaves its slot before anybody sees that the step is back: this pod may take it again. What it hands
      // in waits for this transaction, finds that the attempt has ended already, and changes nothing.
      onPutBack()
      await nextTurn()
    }),
  )
  await callFront(database)
  await callDue(database)
}
