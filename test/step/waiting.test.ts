import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClient, FleetQError } from '../../src/client.ts'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { get, post, submit } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

/** GET /status/{step_id}?wait_seconds: answered when the step has ended, whoever ran it. */

const open = new Map<string, () => void>()
const gated = defineStep(
  'gated',
  {},
  (_, ctx) => new Promise<void>((resolve) => open.set(ctx.stepId, resolve)),
)
const db = await testDatabase()
const worker = await startTestPod(db.url, [gated])
const asked = await startTestPod(db.url, [])

const waitingAt = async (pod: { url: string }) => {
  const page = await (await fetch(`${pod.url}/metrics`)).text()
  return Number(/^fleet_q_pod_waiting (\d+)$/m.exec(page)?.[1])
}
const waits = (n: number, pod = asked) => until(`${n} to wait`, async () => (await waitingAt(pod)) === n)
const begin = async () => {
  const id = await submit(worker.url, { type: 'gated' })
  await until('it to run', () => open.get(id))
  return id
}

test('a hundred that wait for one step on another pod are answered when it completes; nobody waits any more', async () => {
  const id = await begin()
  const answers = Array.from({ length: 100 }, () => get(asked.url, `/status/${id}?wait_seconds=30`))
  await waits(100)
  open.get(id)?.()
  for (const { body } of await Promise.all(answers)) assert.equal(body['status'], 'completed')
  assert.equal(await waitingAt(asked), 0)
})

test('what has ended is answered at once, and a wait that is over tells how the step is', async () => {
  const id = await begin()
  const { body } = await get(asked.url, `/status/${id}?wait_seconds=0.2`)
  assert.equal(body['status'], 'claimed')
  open.get(id)?.()
  await until(
    'it to complete',
    async () => (await get(asked.url, `/status/${id}`)).body['status'] === 'completed',
  )
  assert.equal((await get(asked.url, `/status/${id}?wait_seconds=30`)).body['status'], 'completed')
  assert.equal((await get(asked.url, `/status/${id}?wait_seconds=31`)).status, 400)
  assert.equal((await get(asked.url, '/status/step_20260101000000_nobody?wait_seconds=30')).status, 404)
})

test('a step that is cancelled ends a wait', async () => {
  const id = await submit(asked.url, { type: 'nobody.handles' })
  const answer = get(asked.url, `/status/${id}?wait_seconds=30`)
  await waits(1)
  await post(worker.url, `/steps/${id}/cancel`)
  assert.equal((await answer).body['status'], 'cancelled')
})

test('who hangs up is not waited for', async () => {
  const id = await submit(asked.url, { type: 'nobody.handles' })
  const hangUp = new AbortController()
  const answer = fetch(`${asked.url}/status/${id}?wait_seconds=30`, { signal: hangUp.signal })
  await waits(1)
  hangUp.abort()
  await assert.rejects(answer)
  await waits(0)
})

test('the client waits with few requests, gives up in time, and listens to its signal', async () => {
  const id = await begin()
  const urls: string[] = []
  const counting: typeof fetch = (input, init) => {
    urls.push(new Request(input).url)
    return fetch(input, init)
  }
  const client = createClient({ baseUrl: asked.url, fetch: counting })
  const ended = client.waitFor(id)
  await waits(1)
  open.get(id)?.()
  assert.equal((await ended).status, 'completed')
  assert.equal(urls.length, 1)
  const never = await submit(asked.url, { type: 'nobody.handles' })
  await assert.rejects(
    client.waitFor(never, { timeoutMs: 1200 }),
    (error) => error instanceof FleetQError && error.error_type === 'timeout',
  )
  const signal = AbortSignal.abort(new Error('not any more'))
  await assert.rejects(client.waitFor(never, { signal }), /not any more/)
})

test('a pod that stops lets out those who wait at it', async () => {
  const third = await startTestPod(db.url, [])
  const id = await submit(third.url, { type: 'nobody.handles' })
  const answer = get(third.url, `/status/${id}?wait_seconds=30`)
  await waits(1, third)
  await third.stop()
  assert.equal((await answer).body['status'], 'pending')
})
