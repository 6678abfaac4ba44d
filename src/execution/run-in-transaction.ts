import type { Database, Sql } from '../db/connect.ts'
import { isUnavailable } from '../db/failure.ts'
import { pass } from '../kernel/failpoint.ts'
import { learnFate } from '../step/learn-fate.ts'
import { boundRest } from '../step/transact.sql.ts'
import { findCheckpoints } from './checkpoint.sql.ts'
import type { Checkpoints } from './checkpoints.ts'
import type { Doing, Done } from './memory.ts'
import { asJson, valueOf } from './result.ts'

export interface TransactionParts {
  checkpoints: Checkpoints
  transactions: Pick<Database, 'begin'>
}

/** Beyond the time of the attempt: what it has begun, it may commit. */
const GRACE_MS = 10_000

/** The effects of a body and its checkpoint in one transaction: both are there, or neither. */
export async function runInTransaction(
  { checkpoints, transactions }: TransactionParts,
  { stepId, claimId, limitMs }: { stepId: string; claimId: string; limitMs: number },
  doing: Doing,
  body: (tx: Sql) => unknown,
): Promise<Done> {
  let done: (Done & { turn: number }) | undefined
  try {
    await transactions.begin(async (tx) => {
      const result = asJson(await body(tx))
      const checkpoint = doing.prepare({ result })
      done = { turn: checkpoint.turn, value: valueOf(result) }
      await pass('run.before_write')
      const [, written] = await Promise.all([boundRest(tx), checkpoints.writeIn(tx, checkpoint)])
      if (written.length === 0) throw new Error('the claim of this attempt is gone')
      await pass('run.before_commit')
    }, limitMs + GRACE_MS)
  } catch (error) {
    if (!done) throw error
    const { turn } = done
    const { name, number } = doing.ask
    const isThere = async (tx: Sql) =>
      (await findCheckpoints(tx, [stepId])).some(
        (row) => row.name === name && row.number === number && row.turn === turn,
      )
    // Cut in the commit: both may have happened.
    if (!isUnavailable(error) || !(await learnFate(transactions, claimId, limitMs, isThere))) {
      doing.abandon(turn)
      throw error
    }
  }
  return done ?? {}
}
