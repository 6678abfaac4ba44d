import { appendFileSync } from 'node:fs'
import { connect, type Database } from '../../../src/db/connect.ts'
import { accede, resign } from '../../../src/leader/leader.sql.ts'
import { runCycle } from '../../../src/recovery/run-cycle.ts'
import { cancelStep } from '../../../src/step/cancel.ts'
import { redriveStep } from '../../../src/step/redrive.ts'
import { makePod } from '../../recovery/rows.ts'
import { againOf, failedOf, killPod, reportOf } from '../../sql/arrange.ts'
import { tester } from '../../support/actor.ts'
import type { TestDatabase } from '../../support/database.ts'
import { atEnd } from '../../support/cleanup.ts'
import { makeExecutions, type Executed } from './made-execution.ts'
import { handIn, submit, take, takeLimited, tell, work, type Made } from './made-history.ts'

export interface History extends Executed {
  worker: string
  /** Killed with a step in its hands; what it held was put back. */
  victim: string
  /** Led in a term that is over. */
  firstLeader: string
  leader: string
  plain: Made
  retried: Made
  recovered: Made
  /** It was taken back once, by a redrive, and is cancelled now. */
  cancelled: Made
  redriven: Made
  ledger: Made
  effect: Made
}

const HOUR_MS = 3_600_000

/** Everything that a run knows, once, and nothing of it wrong. */
export async function makeSoundHistory(db: TestDatabase, effectsFile: string): Promise<History> {
  const { database, sql } = db
  const firstLeader = await makePod(sql, { ageMs: 3 * HOUR_MS })
  const leader = await makePod(sql, { ageMs: 2 * HOUR_MS })
  const worker = await makePod(sql)
  const victim = await makePod(sql)

  const plain = await submit(sql, 'plain')
  const named = await connectionOf(db, worker)
  await named.run((own) => work(own, worker))

  const retried = await submit(sql, 'retried')
  for (const step of await take(sql, worker)) await handIn(sql, worker, [againOf(step, 0)])
  await work(sql, worker)

  const redriven = await submit(sql, 'redriven')
  for (const step of await take(sql, worker)) await handIn(sql, worker, [failedOf(step)])
  await redriveStep(database, tester, redriven.stepId, () => {})
  await tell(sql, 'retry', redriven)
  await work(sql, worker)

  const cancelled = await submit(sql, 'cancelled')
  await cancel(db, cancelled)
  await redriveStep(database, tester, cancelled.stepId, () => {})
  await tell(sql, 'retry', cancelled)
  await cancel(db, cancelled)
  await work(sql, worker)

  const stopped = await submit(sql, 'cancelled while it ran, and tried again')
  const running = await take(sql, worker)
  await cancel(db, stopped)
  for (const step of running) await handIn(sql, worker, [{ ...reportOf(step), mayStand: true }])
  await redriveStep(database, tester, stopped.stepId, () => {})
  await tell(sql, 'retry', stopped)
  await work(sql, worker)

  // As many at once as may be.
  for (const op of ['limited one', 'limited two', 'limited three']) await submit(sql, op, { type: 'limited' })
  for (const op of ['single one', 'single two']) await submit(sql, op, { type: 'single', laneKey: 'k1' })
  for (const type of ['limited', 'single', 'single'])
    await sql.begin(async (tx) => {
      const taken = await takeLimited(tx, worker, type)
      await handIn(
        tx,
        worker,
        taken.map((step) => reportOf(step)),
      )
    })

  // It was cancelled while a claim took it: that writes its row down after the cancel, and holds nothing up.
  const met = await submit(sql, 'met', { type: 'single', laneKey: 'k1' })
  const [late] = await sql.begin('isolation level repeatable read', async (tx) => {
    await tx`select from fleet_q.outcomes limit 1`
    await cancel(db, met)
    return takeLimited(tx, worker, 'single')
  })
  if (late?.step_id !== met.key) throw new Error('the claim did not meet the cancel')
  await submit(sql, 'single three', { type: 'single', laneKey: 'k1' })
  for (const step of await sql.begin((tx) => takeLimited(tx, worker, 'single')))
    await handIn(sql, worker, [reportOf(step)])
  await handIn(sql, worker, [{ ...reportOf(late), mayStand: true }])

  const ledger = await submit(sql, 'ledger', { type: 'ledger' })
  const [writing] = await take(sql, worker, 'ledger')
  if (!writing) throw new Error('there was nothing to write in the ledger for')
  await sql.begin(async (tx) => {
    await tx`insert into chaos.ledger (step_id, attempt) values (${ledger.stepId}, 1)`
    await handIn(tx, worker, [reportOf(writing)])
  })

  const effect = await submit(sql, 'effect', { type: 'effect' })
  appendFileSync(effectsFile, `${JSON.stringify({ step: effect.stepId, attempt: 1, pid: 1 })}\n`)
  await work(sql, worker, 'effect')

  const recovered = await submit(sql, 'recovered')
  await submit(sql, 'given up', { maxRetries: 0 })
  const held = await take(sql, victim)
  await killPod(sql, victim)
  await sql`insert into chaos.kills select public_id, clock_timestamp() from fleet_q.pods where id = ${victim}`
  await lead(await connectionOf(db, firstLeader), firstLeader, true)
  await handIn(
    sql,
    victim,
    held.map((step) => reportOf(step)),
  )
  await work(sql, worker)
  await sql`update fleet_q.pods set status = 'gone', ended_at = now(), ended_why = 'goodbye' where id = ${firstLeader}`
  await lead(await connectionOf(db, leader), leader, false)
  const executed = await makeExecutions(db, worker, effectsFile)

  return {
    worker,
    victim,
    firstLeader,
    leader,
    plain,
    retried,
    recovered,
    cancelled,
    redriven,
    ledger,
    effect,
    ...executed,
  }
}

async function cancel({ database, sql }: TestDatabase, step: Made) {
  await cancelStep(database, tester, step.stepId, 'made', () => {})
  await tell(sql, 'cancel', step)
}

/** Named as a pod names its own: the audit tells by it who acts. */
export async function connectionOf({ url, sql }: TestDatabase, pod: string): Promise<Database> {
  const [row] = await sql<{ id: string }[]>`select public_id as id from fleet_q.pods where id = ${pod}`
  const database = connect({
    url,
    name: `fleet-q lead ${row?.id ?? ''}`.slice(0, 63),
    max: 1,
    pooler: false,
    deadlineMs: 20_000,
  })
  atEnd(() => database.close())
  return database
}

/** A term, and a cycle in it. */
async function lead(database: Database, podId: string, resigns: boolean) {
  const [row] = await database.run((sql) => accede(sql, podId))
  if (!row) throw new Error('nobody became leader')
  await runCycle({ database, podId, term: row.term, spreadMs: 0 })
  if (resigns) await database.run((sql) => resign(sql, row.term, 'made so'))
}
