import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClient } from '../../src/client.ts'
import { forgetSettled } from '../../src/step/retention.sql.ts'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

const db = await testDatabase()
const pod = await startTestPod(db.url, [
  defineStep('parent', {}, async (_, ctx) => {
    const child = await ctx.submit('child', { type: 'child' })
    await ctx.waitForEvent('go')
    return child.result()
  }),
  defineStep('child', {}, () => 'the result'),
])
const client = createClient({ baseUrl: pod.url })

/** Everything that ended is older than this by now. */
const forget = async () => {
  await db.sql`update fleet_q.outcomes set settled_at = settled_at - interval '1 day'`
  const [span] = await db.database.run((sql) => forgetSettled(sql, 3600, '0', 1000))
  return span?.forgotten ?? 0
}

const TABLES = ['steps', 'outcomes', 'checkpoints', 'past_checkpoints', 'events', 'execution_names', 'reruns']
const rows = async () => {
  const counts = await Promise.all(
    TABLES.map(async (table) => (await db.sql`select from fleet_q.${db.sql(table)}`).length),
  )
  return Object.fromEntries(TABLES.map((table, i) => [table, counts[i]]))
}

test('what a step returned is kept for as long as the execution lives that may ask for it, and then goes with it', async () => {
  await client.startExecution({ execution_id: 'parent', task_name: 'parent' })
  await until(
    'the child to have ended',
    async () =>
      (await client.getExecution({ execution_id: 'parent' })).waiting_for.includes('go') &&
      (await client.getStats()).completed === 1,
  )
  assert.equal(await forget(), 0)
  await client.sendEvent({ execution_id: 'parent', event_name: 'go' })
  assert.equal((await client.waitForExecution({ execution_id: 'parent' })).result, 'the result')
  // No pod takes it.
  await client.pause({ execution: 'again*' })
  await client.rerunExecution({ execution_id: 'parent', new_execution_id: 'again' })
  await client.cancelExecution({ execution_id: 'again' })
  await client.restartExecution({ execution_id: 'again' })
  await client.cancelExecution({ execution_id: 'again' })
  await until('all to have ended', async () => (await client.getStats()).running === 0)
  while ((await forget()) > 0);
  assert.deepEqual(await rows(), Object.fromEntries(TABLES.map((table) => [table, 0])))
  await assert.rejects(
    client.getExecution({ execution_id: 'parent' }),
    /never started here, or is past its retention/,
  )
})
