import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClient, FleetQError, type ClientOptions } from '../../src/client.ts'
import { FleetError } from '../../src/errors.ts'
import { ALL_TOKENS, openDoor, TOKENS } from './door.ts'
import { standIns } from './stand-ins.ts'

/** A client whose requests go straight into the door; `fate` may put something else in their way. */
function clientOf(
  door: ReturnType<typeof openDoor>,
  options: Partial<ClientOptions> = {},
  fate: (tried: number) => Response | Error | undefined = () => undefined,
) {
  const requests: { url: string; body: string }[] = []
  const client = createClient({
    baseUrl: 'http://localhost:8000/',
    ...options,
    fetch: async (url, init) => {
      assert.ok(typeof url === 'string')
      requests.push({ url, body: typeof init?.body === 'string' ? init.body : '' })
      const met = fate(requests.length)
      if (met instanceof Error) throw met
      return met ?? door.app.request(url, init)
    },
  })
  return { client, requests }
}

const now = (status: number, headers: Record<string, string> = {}) =>
  Response.json({ detail: 'not now' }, { status, headers })

test('every operation is a method: parameters, query and body are one object', async () => {
  const door = openDoor({ tokens: ALL_TOKENS, openAccess: false })
  const { client, requests } = clientOf(door, { token: TOKENS.admin })
  const { step_id } = await client.submitStep({
    type: 'mail',
    args: { to: 'a' },
    priority: 'high',
    tags: ['x'],
  })
  assert.equal(step_id, 'step_20240101120000_abc12345')
  const status = await client.getStatus({ step_id: 'step/with space' })
  assert.equal(status.tray, 'claimed')
  await client.listSteps({ status: 'failed', limit: 5, cursor: undefined })
  await client.cancelStep({ step_id: 'step_1', reason: 'wrong customer' })
  await client.drainPod({ pod_id: 'pod-1' })
  await client.runRecovery()
  const health = await client.getHealth()
  assert.equal(health.database, 'ok')
  assert.deepEqual(door.seen.map(({ name, input }) => [name, input]).slice(1, 6), [
    ['getStatus', { params: { step_id: 'step/with space' }, query: { wait_seconds: 0 } }],
    ['listSteps', { query: { status: 'failed', limit: 5 } }],
    ['cancelStep', { params: { step_id: 'step_1' }, body: { reason: 'wrong customer' } }],
    ['drainPod', { params: { pod_id: 'pod-1' }, body: { enabled: true } }],
    ['runRecovery', { body: { force: false, dry_run: false, relay: false } }],
  ])
  assert.equal(requests[1]?.url, 'http://localhost:8000/status/step%2Fwith%20space')
  // @ts-expect-error a misspelled field does not compile
  await assert.rejects(client.submitStep({ type: 'mail', args: {}, priorty: 1 }))
  // @ts-expect-error nor does a missing one
  await assert.rejects(client.submitStep({ type: 'mail' }))
})

test('an error carries all that was said', async () => {
  const { client } = clientOf(openDoor())
  await assert.rejects(client.submitStep({ type: 'mail', args: {}, priority: 1.5 }), (error) => {
    assert.ok(error instanceof FleetQError)
    assert.equal(error.status, 400)
    assert.equal(error.error_type, 'validation_error')
    assert.equal(error.issues[0]?.at, 'priority')
    assert.match(error.request_id ?? '', /./)
    assert.match(error.message, /^priority must be an integer/)
    return true
  })
})

test('an answer that is none of ours is an error as well', async () => {
  const { client } = clientOf(openDoor(), {}, () => new Response('<html>Bad Gateway</html>', { status: 502 }))
  await assert.rejects(client.getQueue(), {
    name: 'FleetQError',
    status: 502,
    error_type: 'unknown',
    message: 'HTTP 502',
  })
})

test('a submit without a key gets one, the same for every try, and so may be tried again', async () => {
  const door = openDoor()
  const { client, requests } = clientOf(door, {}, (tried) =>
    tried === 1 ? new TypeError('fetch failed') : tried === 2 ? now(503) : undefined,
  )
  await client.submitStep({ type: 'mail', args: {} })
  const keys = requests.map(({ body }) => /"idempotency_key":"([0-9a-f]{32})"/.exec(body)?.[1])
  assert.equal(keys.length, 3)
  assert.ok(keys[0])
  assert.equal(new Set(keys).size, 1)
  await client.submitStep({ type: 'mail', args: {}, idempotency_key: 'mine' })
  assert.match(requests.at(-1)?.body ?? '', /"idempotency_key":"mine"/)
})

test('what could do harm twice is asked once', async () => {
  for (const fate of [() => new TypeError('fetch failed'), () => now(503), () => now(429)]) {
    const { client, requests } = clientOf(openDoor(), {}, fate)
    await assert.rejects(client.runRecovery(), FleetQError)
    assert.equal(requests.length, 1)
  }
})

test('tries are bounded, wait as long as they are told, and end in one error', async () => {
  const { client, requests } = clientOf(openDoor(), { retriesMax: 2 }, () => new TypeError('fetch failed'))
  await assert.rejects(client.getQueue(), { status: 0, error_type: 'unreachable' })
  assert.equal(requests.length, 3)

  const patient = clientOf(openDoor(), {}, (tried) =>
    tried === 1 ? now(429, { 'retry-after': '1' }) : undefined,
  )
  const startedAt = performance.now()
  await patient.client.getQueue()
  assert.ok(performance.now() - startedAt >= 990, 'Retry-After is honoured')

  const hopeless = clientOf(openDoor(), {}, () => now(503, { 'retry-after': '3600' }))
  await assert.rejects(hopeless.client.getQueue(), { status: 503 })
  assert.equal(hopeless.requests.length, 1, 'an hour is not waited for')
})

test('errors that another try does not mend are told at once', async () => {
  for (const status of [400, 401, 403, 404, 409, 500, 504]) {
    const { client, requests } = clientOf(openDoor(), {}, () => now(status))
    await assert.rejects(client.getQueue(), { status })
    assert.equal(requests.length, 1)
  }
})

test('a pod that says it is not ready has answered', async () => {
  const body = { status: 'starting', pod_id: 'pod-1', message: 'Not yet' } as const
  const door = openDoor({ handlers: { ...standIns, getReadiness: async () => ({ status: 503, body }) } })
  const { client, requests } = clientOf(door)
  assert.deepEqual(await client.getReadiness(), body)
  assert.equal(requests.length, 1)
})

test('a call ends when its caller no longer wants it, also between two tries', async () => {
  const { client } = clientOf(openDoor(), {}, () => now(503, { 'retry-after': '20' }))
  const stop = new AbortController()
  const call = client.getQueue({}, { signal: stop.signal })
  setTimeout(() => stop.abort(new Error('no longer wanted')), 20)
  await assert.rejects(call, { message: 'no longer wanted' })
})

test('a request that is never answered ends by itself', async () => {
  const client = createClient({
    baseUrl: 'http://localhost:8000',
    timeoutMs: 30,
    retriesMax: 0,
    fetch: (_, init) =>
      new Promise((_resolve, reject) => {
        init?.signal?.addEventListener('abort', () => reject(init.signal?.reason))
      }),
  })
  // A timeout signal does not keep the process alive by itself.
  const alive = setInterval(() => {}, 1000)
  await assert.rejects(client.getQueue(), { error_type: 'unreachable' })
  clearInterval(alive)
})

test('waitFor comes back with the status once the step has its outcome', async () => {
  let looks = 0
  const { client } = clientOf(
    openDoor({
      handlers: {
        ...standIns,
        getStatus: async (input, caller) => {
          const { body } = await standIns.getStatus(input, caller)
          return {
            body:
              ++looks < 3 ? body : { ...body, status: 'failed', tray: 'settled', error: { message: 'no' } },
          }
        },
      },
    }),
  )
  const { status, error } = await client.waitFor('step_1')
  assert.equal(status, 'failed')
  assert.equal(error?.message, 'no')
  assert.equal(looks, 3)
})

test('waitFor gives up in time, and at once where there is no such step', async () => {
  const { client } = clientOf(openDoor())
  await assert.rejects(client.waitFor('step_1', { timeoutMs: 150 }), { error_type: 'timeout' })
  const none = openDoor({
    handlers: {
      ...standIns,
      getStatus: async () => {
        throw new FleetError('step_not_found', 'There is no step step_1.')
      },
    },
  })
  await assert.rejects(clientOf(none).client.waitFor('step_1'), {
    status: 404,
    message: 'There is no step step_1.',
  })
})
