import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { defineStep, retry } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { get, submit } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

const db = await testDatabase()
const pod = await startTestPod(db.url, [
  defineStep('double', { input: z.object({ n: z.number() }) }, ({ n }) => ({ doubled: n * 2 })),
  defineStep('once-more', {}, (_, ctx) =>
    ctx.attempt === 1 ? retry(0, 'not yet') : { attempt: ctx.attempt },
  ),
  defineStep('breaks', { backoff: { strategy: 'fixed', base_ms: 1, jitter: 0 } }, () => {
    throw new TypeError('no luck')
  }),
])
const settled = (id: string) =>
  until(`step ${id} to settle`, async () => {
    const { body } = await get(pod.url, `/status/${id}`)
    return body['tray'] === 'settled' && body
  })

test('a submitted step runs once, and its status tells the result and who ran it', async () => {
  const status = await settled(await submit(pod.url, { type: 'double', args: { n: 21 } }))
  assert.equal(status['status'], 'completed')
  assert.deepEqual(status['result'], { doubled: 42 })
  assert.equal(status['claimed_by'], pod.id)
  assert.equal(status['retry_count'], 0)
})

test('a handler that asks for another try gets one, and both attempts are told', async () => {
  const status = await settled(await submit(pod.url, { type: 'once-more' }))
  assert.deepEqual(status['result'], { attempt: 2 })
  assert.equal(status['retry_count'], 1)
  assert.deepEqual(
    (status['attempts'] as { ended: string }[]).map((attempt) => attempt.ended),
    ['retried', 'completed'],
  )
})

test('a step that fails has max_retries + 1 attempts, and ends as a dead letter with the reason', async () => {
  const id = await submit(pod.url, { type: 'breaks', max_retries: 2 })
  const status = await settled(id)
  assert.equal(status['status'], 'failed')
  assert.equal((status['attempts'] as unknown[]).length, 3)
  assert.equal((status['error'] as { message: string }).message, 'no luck')
  const { body } = await get(pod.url, '/admin/dead-letters')
  const [letter] = body['dead_letters'] as { step_id: string; reason: string }[]
  assert.equal(letter?.step_id, id)
  assert.equal(letter?.reason, 'exhausted')
})
