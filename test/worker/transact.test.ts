import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exchange } from '../../src/step/exchange.sql.ts'
import { stepTransaction } from '../../src/worker/transact.ts'
import { addLane, addPod, addSteps, claimedOf, reportOf, want } from '../sql/arrange.ts'
import { testDatabase } from '../support/database.ts'

const { sql, database } = await testDatabase()

test('what a handler wrote through its transaction is there where its claim stands, and only there', async () => {
  await sql`create table public.ledger (step_id bigint primary key)`
  const podId = await addPod(sql)
  const lane = await addLane(sql)
  for (const stands of [true, false]) {
    const ids = await addSteps(sql, lane, 1)
    const [step] = claimedOf(await database.run((tx) => exchange(tx, want(podId), [], [])))
    assert.deepEqual([step?.step_id], ids)
    assert.ok(step)
    const transaction = stepTransaction(database, podId, step, 10_000)
    const tx = await transaction.open()
    await tx`insert into public.ledger values (${step.step_id})`
    if (!stands) await sql`delete from fleet_q.claims where id = ${step.claim_id}`
    assert.equal(await transaction.commit(reportOf(step)), stands)
    assert.equal(
      (await sql`select from public.ledger where step_id = ${step.step_id}`).length,
      stands ? 1 : 0,
    )
    assert.equal(
      (await sql`select from fleet_q.outcomes where step_id = ${step.step_id}`).length,
      stands ? 1 : 0,
    )
  }
})
