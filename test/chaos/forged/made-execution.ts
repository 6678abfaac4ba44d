import { appendFileSync } from 'node:fs'
import type { Sql } from '../../../src/db/connect.ts'
import { newCheckpoint, writeCheckpoints, type NewCheckpoint } from '../../../src/execution/checkpoint.sql.ts'
import type { ClaimedStep } from '../../../src/step/claim.sql.ts'
import { failedOf, reportOf } from '../../sql/arrange.ts'
import type { TestDatabase } from '../../support/database.ts'
import { handIn, submit, take, tell, type Made } from './made-history.ts'

/** An execution in a run of chaos, by the product's own statements, without pods and handlers. */

export interface Executed {
  /** Thought, did something outside, wrote in a transaction, got one event, and waited for another in vain. */
  order: Made
  /** It went to sleep under this claim, which is gone. */
  firstClaim: string
  /** Failed, and has undone what it had done. */
  saga: Made
}

type Fields = Pick<NewCheckpoint, 'name' | 'kind'> & Partial<NewCheckpoint>

async function remember(sql: Sql, pod: string, { claim_id, step_id }: ClaimedStep, fields: Fields) {
  const after = (fields.turn ?? 1) - 1
  const row = newCheckpoint({
    claimId: claim_id,
    stepId: step_id,
    number: 1,
    after,
    mayStand: false,
    ...fields,
  })
  const written = await writeCheckpoints(sql, pod, [row])
  if (written.length !== 1) throw new Error(`"${fields.name}" was not written`)
}

export const sendEvent = async (sql: Sql, { stepId, key }: Made, name: string, id: string) => {
  await sql`select fleet_q.send_event_to(${key}, ${name}, ${JSON.stringify({ id })}::text::jsonb)`
  await tell(sql, 'event', { op: id, stepId })
}

export async function makeExecutions(
  db: TestDatabase,
  worker: string,
  effectsFile: string,
): Promise<Executed> {
  const { sql } = db
  const order = await submit(sql, 'order', { type: 'order' })
  const first = await one(sql, worker, 'order')
  await remember(sql, worker, first, { name: 'think', kind: 'run', turn: 1, result: '"thought"' })
  const seen: Record<string, unknown> = { '1 think': 'thought' }
  appendFileSync(
    effectsFile,
    `${JSON.stringify({ step: order.stepId, attempt: 1, pid: 1, place: '1 effect', value: 'done', seen })}\n`,
  )
  await remember(sql, worker, first, { name: 'effect', kind: 'run', turn: 2, result: '"done"' })
  await sql.begin(async (tx) => {
    await tx`insert into chaos.written (step_id, place, value) values (${order.stepId}, '1 ledger', 'row')`
    await remember(tx, worker, first, { name: 'ledger', kind: 'run', turn: 3, result: '"row"' })
  })
  await remember(sql, worker, first, { name: 'go', kind: 'event', after: 3 })
  await handIn(sql, worker, [
    reportOf(first, { outcome: null, ended: 'suspended', result: null, nextAttempt: 1, waitsFor: 'answer' }),
  ])
  await sendEvent(sql, order, 'go', 'order/go/1')

  const second = await one(sql, worker, 'order')
  await remember(sql, worker, second, { name: 'go', kind: 'event', turn: 4, mayStand: true })
  Object.assign(seen, { '1 effect': 'done', '1 ledger': 'row', '1 go': { id: 'order/go/1' } })
  await remember(sql, worker, second, { name: 'maybe', kind: 'event', after: 4, delayMs: 0 })
  await remember(sql, worker, second, {
    name: 'maybe',
    kind: 'event',
    turn: 5,
    error: '{"class":"EventTimeout","message":"maybe"}',
    mayStand: true,
  })
  await handIn(sql, worker, [reportOf(second, { result: JSON.stringify({ op: 'order', seen }) })])

  // Its last try has failed; who undoes it dies, and another goes on.
  const saga = await submit(sql, 'saga', { type: 'saga', maxRetries: 0 })
  const failing = await one(sql, worker, 'saga')
  await remember(sql, worker, failing, { name: 'give back', kind: 'undo', turn: 1 })
  await remember(sql, worker, failing, {
    name: '$failure',
    kind: 'failure',
    turn: 2,
    error: '{"class":"Error"}',
  })
  await handIn(sql, worker, [
    reportOf(failing, { outcome: null, ended: 'pod_died', result: null, nextAttempt: 2 }),
  ])
  const undoing = await one(sql, worker, 'saga')
  await remember(sql, worker, undoing, { name: 'give back/undo', kind: 'run', turn: 3 })
  await handIn(sql, worker, [failedOf(undoing)])
  return { order, firstClaim: first.claim_id, saga }
}

async function one(sql: Sql, worker: string, type: string): Promise<ClaimedStep> {
  const [step] = await take(sql, worker, type)
  if (!step) throw new Error(`there was no ${type} to take`)
  return step
}
