import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createClient } from '../../src/client.ts'
import { endPauses } from '../../src/execution/pause-execution.ts'
import { connect } from '../../src/db/connect.ts'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

/** Told of each body that begins; a body ends when its gate opens. */
const begun: string[] = []
const gates = new Map<string, () => void>()
const open = (name: string) => until(`gate ${name}`, () => gates.get(name)).then((let_) => let_())

const db = await testDatabase()
const pod = await startTestPod(db.url, [
  defineStep('two', {}, async (_, ctx) => {
    for (const name of ['first', 'second'])
      await ctx.run(name, async () => {
        begun.push(`${String(ctx.metadata['id'])} ${name}`)
        await new Promise<void>((resolve) => gates.set(`${String(ctx.metadata['id'])} ${name}`, resolve))
      })
    return 'both'
  }),
  defineStep('naps', {}, async (_, ctx) => {
    await ctx.sleep('nap', 200)
    return 'rested'
  }),
  defineStep('plain', {}, () => 'done'),
])
const client = createClient({ baseUrl: pod.url })

const start = (execution_id: string, task_name: string) =>
  client.startExecution({ execution_id, task_name, metadata: { id: execution_id } })
const isPaused = (id: string) =>
  until(`${id} to be held by a pause`, async () => {
    const { step_id } = await client.getExecution({ execution_id: id })
    const why = await client.why({ step_id })
    return why.reason === 'paused' && (await client.getStatus({ step_id })).tray === 'held' && why
  })

describe('a paused execution', () => {
  test('that runs ends the body that runs, begins no other, and goes on with the next when it is resumed', async () => {
    await start('runs', 'two')
    await until('it to begin', () => begun.includes('runs first'))
    const { message } = await client.pauseExecution({ execution_id: 'runs', reason: 'the bank is closed' })
    assert.match(message, /stops at its next checkpoint/)
    await open('runs first')
    const why = await isPaused('runs')
    assert.match(
      why.sentence,
      /^It is paused \(runs\) since .*, until somebody resumes it: the bank is closed\.$/,
    )
    assert.equal(begun.includes('runs second'), false)
    await client.resumeExecution({ execution_id: 'runs' })
    await open('runs second')
    const { result } = await client.waitForExecution({ execution_id: 'runs' })
    assert.equal(result, 'both')
    assert.equal(begun.filter((each) => each === 'runs first').length, 1)
  })

  test('that sleeps stays away when its time comes', async () => {
    await start('sleeper', 'naps')
    await client.pauseExecution({ execution_id: 'sleeper' })
    await isPaused('sleeper')
    await client.resumeExecution({ execution_id: 'sleeper' })
    assert.equal((await client.waitForExecution({ execution_id: 'sleeper' })).result, 'rested')
  })

  test('goes on by itself when its pause has an end', async () => {
    const until_ = new Date(Date.now() + 1500).toISOString()
    await client.pause({ execution: 'short-*', until: until_ })
    await start('short-1', 'plain')
    await isPaused('short-1')
    const { completed_at } = await client.waitForExecution({ execution_id: 'short-1' })
    assert.ok(completed_at !== null && completed_at >= until_)
  })

  test('is cancelled as any other', async () => {
    await client.pause({ execution: 'doomed' }).catch((error: Error) => {
      assert.match(error.message, /execution 'doomed' not found/)
    })
    await start('doomed', 'naps')
    await client.pauseExecution({ execution_id: 'doomed' })
    await isPaused('doomed')
    await client.cancelExecution({ execution_id: 'doomed' })
    assert.equal((await client.getExecution({ execution_id: 'doomed' })).status, 'cancelled')
    await client.resumeExecution({ execution_id: 'doomed' })
    assert.equal((await client.getExecution({ execution_id: 'doomed' })).status, 'cancelled')
  })
})

describe('a pause of a pattern', () => {
  test('holds all whose ids fit and nobody else, and is listed until it ends', async () => {
    await client.pause({ execution: 'order_*', reason: 'stock-taking' })
    for (const id of ['order_1', 'order_2', 'orderx3']) await start(id, 'plain')
    assert.equal((await client.waitForExecution({ execution_id: 'orderx3' })).result, 'done')
    await Promise.all(['order_1', 'order_2'].map(isPaused))
    const { pauses } = await client.listPauses({})
    assert.deepEqual(
      pauses.map(({ execution, reason }) => [execution, reason]),
      [['order_*', 'stock-taking']],
    )
    const resumed = await client.resume({ execution: 'order_*' })
    assert.equal(resumed.message, 'Executions "order_*" may go on again.')
    for (const id of ['order_1', 'order_2'])
      assert.equal((await client.waitForExecution({ execution_id: id })).result, 'done')
    assert.deepEqual((await client.listPauses({})).pauses, [])
  })

  test('and one of its executions alone: it goes on when both have ended', async () => {
    await client.pause({ execution: 'both-*' })
    await start('both-1', 'plain')
    await client.pauseExecution({ execution_id: 'both-1' })
    await isPaused('both-1')
    await client.resume({ execution: 'both-*' })
    assert.match((await isPaused('both-1')).sentence, /\(both-1\)/)
    await client.resumeExecution({ execution_id: 'both-1' })
    assert.equal((await client.waitForExecution({ execution_id: 'both-1' })).result, 'done')
  })

  test('names executions or types, not both', async () => {
    await assert.rejects(
      client.pause({ execution: 'a*', type: 'plain' }),
      /must name a type, a key, or both; or/,
    )
  })
})

test('what a pause held goes on even if whoever ended it died before that', async () => {
  await client.pause({ execution: 'left-*' })
  await start('left-1', 'plain')
  await isPaused('left-1')
  await db.sql`update fleet_q.execution_pauses set until = fleet_q.clock() where execution = 'left-*'`
  const database = connect({ url: db.url, name: 'a chore', max: 1, pooler: false, deadlineMs: 5000 })
  await endPauses(database, () => {})
  await database.close()
  assert.equal((await client.waitForExecution({ execution_id: 'left-1' })).result, 'done')
})
