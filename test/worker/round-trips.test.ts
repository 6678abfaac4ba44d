import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

/** What a step costs in round trips: steps share them, or no tuning of the rest helps. */

const STEPS = 5000
const db = await testDatabase()
const { sql } = db

const done = async () => {
  const [row] = await sql<{ n: number }[]>`
    select count(*)::int as n from fleet_q.outcomes where status = 'completed'`
  return row?.n ?? 0
}
const claims = async () => {
  const [row] = await sql<{ n: number }[]>`
    select case when is_called then last_value else 0 end::int as n from fleet_q.claims_id_seq`
  return row?.n ?? 0
}

async function fill(type: string, steps: number) {
  await sql`
    with lane as (select fleet_q.lane_of(${type}, 0, '') as id),
    fresh as (
      insert into fleet_q.steps (salt, lane_id, max_retries, args)
      select n, lane.id, 3, '{}' from lane, generate_series(1, ${steps}::int) as n returning id, lane_id)
    insert into fleet_q.ready (lane_id, step_id, attempt) select lane_id, id, 1 from fresh order by id`
}

/** Statements of a pod that is gone: a backend reports them at the latest when it ends. */
async function transactionsOf(run: () => Promise<void>): Promise<number> {
  const committed = async () => {
    const [row] = await sql<{ n: number }[]>`
      select xact_commit::int as n from pg_stat_database where datname = current_database()`
    return row?.n ?? 0
  }
  const before = await committed()
  await run()
  let last = -1
  return until('the server to have counted everything', async () => {
    const now = (await committed()) - before
    const isSettled = now === last
    last = now
    return isSettled && now > 0 && now
  })
}

test('a pod of 8 slots takes 5000 quick steps in a few dozen round trips, hundreds at a time', async () => {
  await fill('quick', STEPS)
  const transactions = await transactionsOf(async () => {
    const pod = await startTestPod(db.url, [defineStep('quick', {}, () => ({ ok: true }))])
    await until('all of them to be done', async () => (await done()) === STEPS)
    await pod.stop()
  })
  // 8, 16, 24, 48 and so on to 500: about 16 claims, and as many exchanges, some settles, and what a start and a stop take.
  assert.ok((await claims()) <= 40, `${await claims()} claims`)
  assert.ok(transactions <= 120, `${transactions} transactions`)
})

test('a pod claims no more than its slots of steps that take their time', async () => {
  await fill('slow', 100)
  const before = await claims()
  let most = 0
  const pod = await startTestPod(db.url, [
    defineStep('slow', {}, async () => {
      const [row] = await sql<{ n: number }[]>`
        select coalesce(sum(cardinality(step_ids)), 0)::int as n from fleet_q.claims`
      most = Math.max(most, row?.n ?? 0)
      await new Promise((resolve) => setTimeout(resolve, 150))
    }),
  ])
  await until('all of them to be done', async () => (await done()) === STEPS + 100)
  await pod.stop()
  // A claim names all its steps to its end, so what has ended may stand beside what runs: twice the slots, and one ahead.
  assert.ok(most <= 8 * 3, `${most} steps were in claims at once`)
  assert.ok((await claims()) > before)
})
