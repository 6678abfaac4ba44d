import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exchange } from '../../src/step/exchange.sql.ts'
import { why } from '../../src/step/why.ts'
import { addLane, addPod, addSteps, want } from '../sql/arrange.ts'
import { testDatabase } from '../support/database.ts'

const { sql, database } = await testDatabase()

test('why says which try it is of how many, and beyond them what is still done', async () => {
  const pod = await addPod(sql)
  const lane = await addLane(sql)
  for (const [attempt, said] of [
    [4, /: attempt 4 of 4 on pod-/],
    // A pod died that undid what was done, and another goes on with that.
    [5, /: attempt 5, to undo what it did, on pod-/],
  ] as const) {
    const [id] = await addSteps(sql, lane, 1)
    await sql`update fleet_q.ready set attempt = ${attempt} where step_id = ${id ?? ''}`
    await exchange(sql, want(pod), [], [])
    const [step] = await sql<{ name: string }[]>`
      select fleet_q.step_public_id(id, salt, created_at) as name from fleet_q.steps where id = ${id ?? ''}`
    assert.match((await why(database, step?.name ?? '')).sentence, said)
  }
})
