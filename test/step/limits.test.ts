import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from '../../src/client.ts'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

/** Counts what runs at once, over all pods of this process. */
function gauge() {
  const now = new Map<string, number>()
  const most = new Map<string, number>()
  return {
    most,
    async run(name: string, ms: number) {
      now.set(name, (now.get(name) ?? 0) + 1)
      most.set(name, Math.max(most.get(name) ?? 0, now.get(name) ?? 0))
      await new Promise((resolve) => setTimeout(resolve, ms))
      now.set(name, (now.get(name) ?? 0) - 1)
    },
  }
}

const db = await testDatabase()
const seen = gauge()
let openGate: () => void = () => {}
const gate = new Promise<void>((resolve) => (openGate = resolve))
const steps = [
  defineStep('narrow', {}, async () => seen.run('narrow', 3)),
  defineStep('per-key', {}, async (_, ctx) => seen.run(ctx.tags[0] ?? '', 3)),
  defineStep('free', {}, () => 'free'),
  defineStep('held', {}, () => gate),
]
const pods = [
  await startTestPod(db.url, steps),
  await startTestPod(db.url, steps),
  await startTestPod(db.url, steps),
]
const client = createClient({ baseUrl: pods[0]?.url ?? '' })

const allDone = (type: string, count: number) =>
  until(`${count} steps of type ${type} to complete`, async () => {
    const [row] = await db.sql`
      select count(*)::int as n from fleet_q.outcomes join fleet_q.steps on steps.id = outcomes.step_id
      join fleet_q.lanes on lanes.id = steps.lane_id where lanes.type = ${type} and outcomes.status = 'completed'`
    return row?.['n'] === count
  })

test('three pods never run more of a type than its limit, and all of it gets done', async () => {
  await client.setLimit({ type: 'narrow', max_running: 3 })
  const batch = Array.from({ length: 120 }, (_, i) => ({ type: 'narrow', args: {}, priority: i % 3 }))
  await client.submitBatch({ steps: batch })
  await allDone('narrow', 120)
  assert.ok((seen.most.get('narrow') ?? 0) <= 3, `at most 3, seen ${seen.most.get('narrow')}`)
})

test('a limit per key holds for each key by itself', async () => {
  await client.setLimit({ type: 'per-key', max_running_per_key: 1 })
  const batch = Array.from({ length: 60 }, (_, i) => ({
    type: 'per-key',
    args: {},
    key: `k${i % 4}`,
    tags: [`k${i % 4}`],
  }))
  await client.submitBatch({ steps: batch })
  await allDone('per-key', 60)
  for (const key of ['k0', 'k1', 'k2', 'k3']) assert.equal(seen.most.get(key), 1)
})

test('a step whose limit is reached is told so, with who holds it, and other types are not held up', async () => {
  await client.setLimit({ type: 'held', max_running: 1 })
  const first = await client.submitStep({ type: 'held', args: {} })
  await until(
    'the first to be claimed',
    async () => (await client.getStatus({ step_id: first.step_id })).status === 'claimed',
  )
  const second = await client.submitStep({ type: 'held', args: {} })
  const why = await client.why({ step_id: second.step_id })
  assert.equal(why.reason, 'limit_reached')
  assert.ok(why.sentence.includes(first.step_id), why.sentence)
  const { limits } = await client.listLimits()
  assert.deepEqual(
    limits.find((limit) => limit.type === 'held'),
    { type: 'held', max_running: 1, max_running_per_key: null, running: 1 },
  )
  const { step_id } = await client.submitStep({ type: 'free', args: {} })
  assert.equal((await client.waitFor(step_id)).status, 'completed')
  openGate()
  assert.equal((await client.waitFor(second.step_id)).status, 'completed')
})

test('a limit that is taken away is one no more', async () => {
  const answer = await client.setLimit({ type: 'held', max_running: null })
  assert.match(answer.message, /no limit/)
  assert.ok(!(await client.listLimits()).limits.some((limit) => limit.type === 'held'))
})

test('a pod alone takes the next of a limited type as soon as one has ended, not at its next poll', async () => {
  const alone = await testDatabase()
  // It looks by itself once in five minutes.
  const patient = { FLEET_Q_POLL_SECONDS: '300', FLEET_Q_HEARTBEAT_SECONDS: '3' }
  const pod = await startTestPod(alone.url, [defineStep('single', {}, () => sleep(5))], patient)
  const only = createClient({ baseUrl: pod.url })
  await only.setLimit({ type: 'single', max_running: 1 })
  await only.submitBatch({ steps: Array.from({ length: 40 }, () => ({ type: 'single', args: {} })) })
  await until('all of them to be done', async () => {
    const { completed_steps } = await only.getQueue()
    return completed_steps === 40
  })
})
