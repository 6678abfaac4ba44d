import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClient } from '../../src/client.ts'
import { CHANNEL, parseHint } from '../../src/pod/hints.ts'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

/** Pods that look by themselves once in five minutes: what goes on within the limit of a test was called. */
const DEAF = {
  FLEET_Q_POLL_SECONDS: '300',
  FLEET_Q_HEARTBEAT_SECONDS: '60',
  FLEET_Q_DEAD_AFTER_SECONDS: '200',
  FLEET_Q_STALL_SECONDS: '200',
}

const gates = new Map<string, () => void>()
const gate = (name: string) => new Promise<void>((resolve) => gates.set(name, resolve))
const release = (name: string) => gates.get(name)?.()
const parents = [
  defineStep('parent', {}, async (_, ctx) => {
    const child = await ctx.submit('child', { type: String(ctx.metadata['child']) })
    return child.result()
  }),
  defineStep('approval', {}, (_, ctx) => ctx.waitForEvent('approved')),
  defineStep('naps', {}, async (_, ctx) => {
    await ctx.sleep('nap', 300)
    return 'rested'
  }),
]
const children = [
  defineStep('gated', {}, () => gate('gated').then(() => 'opened')),
  defineStep('writes', {}, async (_, ctx) => {
    const tx = await ctx.tx()
    await tx`select 1`
    await gate('writes')
    return 'written'
  }),
]

const db = await testDatabase()
const pod = await startTestPod(db.url, parents, DEAF)
const other = await startTestPod(db.url, children, DEAF)
const client = createClient({ baseUrl: pod.url })
const atOther = createClient({ baseUrl: other.url })

/** What pods call to each other. */
const heard: string[] = []
await db.sql.listen(CHANNEL, (payload) => void heard.push(parseHint(payload)?.kind ?? ''))
const called = async (act: () => Promise<unknown>) => {
  heard.length = 0
  await act()
  await until('the call to the pods', () => heard.includes('ready'))
}

const start = (execution_id: string, task_name: string, metadata = {}) =>
  client.startExecution({ execution_id, task_name, metadata })
const waits = (execution_id: string) =>
  until(`${execution_id} to be asleep`, async () => {
    const { step_id } = await client.getExecution({ execution_id })
    return (await client.getStatus({ step_id })).tray === 'held'
  })
const result = async (execution_id: string) => (await client.waitForExecution({ execution_id })).result

test('an execution is called when its event is sent at another pod', async () => {
  await start('approval', 'approval')
  await waits('approval')
  await called(() => atOther.sendEvent({ execution_id: 'approval', event_name: 'approved', payload: 'yes' }))
  assert.equal(await result('approval'), 'yes')
})

test('when the step that it waits for ends on another pod, also with its transaction, and when that is cancelled', async () => {
  for (const child of ['gated', 'writes']) await start(`parent of ${child}`, 'parent', { child })
  await start('parent of nobody', 'parent', { child: 'handled-nowhere' })
  for (const child of ['gated', 'writes', 'nobody']) await waits(`parent of ${child}`)
  await called(async () => release('gated'))
  assert.equal(await result('parent of gated'), 'opened')
  await called(async () => release('writes'))
  assert.equal(await result('parent of writes'), 'written')
  const { waiting_for } = await client.getExecution({ execution_id: 'parent of nobody' })
  await called(() => atOther.cancelStep({ step_id: waiting_for[0] ?? '', reason: 'nobody handles it' }))
  const ended = await client.waitForExecution({ execution_id: 'parent of nobody' })
  assert.match(ended.error?.message ?? '', /was cancelled: nobody handles it/)
})

test('when its sleep is over', async () => {
  await start('naps', 'naps')
  assert.equal(await result('naps'), 'rested')
})
