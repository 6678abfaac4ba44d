import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defineStep } from '../../src/step/handler.ts'
import { addLane, addSteps } from '../sql/arrange.ts'
import { testDatabase } from '../support/database.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

/** Hints save time. Without any, and for what a hint came too early for, a pod looks by itself. */

const { url, sql } = await testDatabase()
// A beat looks for work too: it comes seldom.
const SELDOM = { FLEET_Q_HEARTBEAT_SECONDS: '20', FLEET_Q_DEAD_AFTER_SECONDS: '60' }
await startTestPod(
  url,
  ['plain', 'late'].map((type) => defineStep(type, {}, () => ({}))),
  SELDOM,
)

const haveEnded = (ids: string[]) =>
  until(`${ids.length} steps to complete`, async () => {
    const [row] = await sql<{ n: number }[]>`
      select count(*)::int as n from fleet_q.outcomes where step_id = any (${ids}::bigint[]) and status = 'completed'`
    return row?.n === ids.length
  })

test('steps that nobody has announced are found by polling, again and again', async () => {
  const lane = await addLane(sql, { type: 'plain' })
  for (let round = 0; round < 3; round++) await haveEnded(await addSteps(sql, lane, 1))
})

test('a step whose submit commits late, behind the mark that its pod has in the lane, is found by the sweep', async () => {
  const lane = await addLane(sql, { type: 'late' })
  const [late] = await sql.begin(async (slow) => {
    const rows = await slow<{ key: string }[]>`select fleet_q.step_key(fleet_q.submit('late')) as key`
    // A mark is made of hundreds of steps, by claims that come more than 100 ms after one another.
    const began = performance.now()
    for (let round = 0; round < 4 || performance.now() - began < 500; round++)
      await haveEnded(await addSteps(sql, lane, 300))
    return rows
  })
  assert.ok(late)
  await haveEnded([late.key])
})
