import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ERROR_CODES, FleetError } from '../../src/errors.ts'
import { STATUS } from '../../src/http/problem.ts'
import { bearer, openDoor, said, ALL_TOKENS, TOKENS } from './door.ts'
import { standIns } from './stand-ins.ts'

const STEP = { type: 'data_processing', args: {} }

/** The door with a /status that fails. */
const failing = (failure: unknown) =>
  openDoor({
    handlers: {
      ...standIns,
      getStatus: async () => {
        throw failure
      },
    },
  })

test('submit answers as the seed shows it', async () => {
  const { send } = openDoor()
  const response = await send('/submit', STEP)
  assert.equal(response.status, 201)
  assert.equal(response.headers.get('content-type'), 'application/json')
  assert.deepEqual(await response.json(), {
    step_id: 'step_20240101120000_abc12345',
    status: 'submitted',
    message: 'Step step_20240101120000_abc12345 submitted successfully',
  })
})

test('an answer given again is 200 and says so', async () => {
  const { send } = openDoor({
    handlers: {
      ...standIns,
      submitStep: async () => ({
        body: { step_id: 'step_1', status: 'submitted', message: 'again' },
        replayed: true,
      }),
    },
  })
  const response = await send('/submit', { ...STEP, idempotency_key: 'k' })
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('idempotency-replayed'), 'true')
})

test('a list points to its next page in the body and in Link', async () => {
  const { ask } = openDoor()
  const response = await ask('GET', '/steps?status=failed&limit=2')
  assert.equal(response.headers.get('link'), '</steps?status=failed&limit=2&cursor=after+100>; rel="next"')
  const last = await ask('GET', '/steps?status=failed&limit=2&cursor=after+100')
  assert.equal(last.headers.get('link'), null)
  assert.equal((await ask('GET', '/admin/recovery')).headers.get('link'), null)
})

test('a pod that is not ready says so in its own shape, and when to ask again', async () => {
  const { ask } = openDoor({
    handlers: {
      ...standIns,
      getReadiness: async () => ({
        status: 503,
        body: { status: 'database_away', pod_id: 'pod-1', message: 'The database does not answer' },
      }),
    },
  })
  const response = await ask('GET', '/readyz')
  assert.equal(response.status, 503)
  assert.equal(response.headers.get('retry-after'), '5')
  assert.deepEqual(await response.json(), {
    status: 'database_away',
    pod_id: 'pod-1',
    message: 'The database does not answer',
  })
})

test('every error of ours has its status and type, as CONTRACT.md lists them', async () => {
  const contract: Record<string, number[]> = {
    validation_error: [400, 413, 415],
    unauthenticated: [401],
    permission_denied: [403],
    not_found: [404],
    method_not_allowed: [405],
    conflict: [409],
    rate_limited: [429],
    not_running: [503],
    database_unavailable: [503],
    timeout: [504],
    internal_error: [500],
    database_error: [500],
  }
  for (const code of ERROR_CODES) {
    const response = await failing(new FleetError(code, 'The sentence.')).ask('GET', '/status/step_1')
    const { error_type, detail } = await said(response)
    assert.ok(contract[error_type]?.includes(response.status), code)
    assert.deepEqual({ status: response.status, error_type }, pick(STATUS[code]))
    assert.equal(detail === 'The sentence.', response.status !== 500, code)
    if ([429, 503].includes(response.status))
      assert.match(response.headers.get('retry-after') ?? '', /^[1-9]\d*$/, code)
  }
})

const pick = ({ status, error_type }: { status: number; error_type: string }) => ({ status, error_type })

test('an error in our words tells what it says, field by field, and when to come back', async () => {
  const error = new FleetError('database_unavailable', 'The database is away.', {
    issues: [{ at: 'type', message: 'nobody handles it' }],
    retryAfterSeconds: 1.2,
  })
  const response = await failing(error).ask('GET', '/status/step_1', { headers: { 'x-request-id': 'abc-1' } })
  const { timestamp, ...rest } = await said(response)
  assert.ok(Math.abs(Date.parse(timestamp) - Date.now()) < 5000)
  assert.deepEqual(rest, {
    detail: 'The database is away.',
    error: 'The database is away.',
    error_type: 'database_unavailable',
    path: '/status/step_1',
    request_id: 'abc-1',
    issues: [{ at: 'type', message: 'nobody handles it' }],
  })
  assert.equal(response.headers.get('retry-after'), '2')
})

test('what went wrong inside stays in the log: no statement, no stack, no cause', async () => {
  const canary = 'select secret from passwords'
  const failures = [
    new Error(canary),
    Object.assign(new Error('boom', { cause: new Error(canary) }), { query: canary }),
    new FleetError('database_error', `near: ${canary}`, { cause: new Error(canary) }),
    new FleetError('internal_error', canary),
    canary,
    { message: canary },
    undefined,
  ]
  for (const failure of failures) {
    const { ask, lines } = failing(failure)
    const response = await ask('GET', '/status/step_1')
    assert.equal(response.status, 500)
    const text = await response.text()
    assert.doesNotMatch(text, /secret|passwords|\.ts|node:|at /)
    const { request_id, detail } = JSON.parse(text)
    assert.equal(detail, `Something went wrong; request id ${request_id} is in the log`)
    const logged = lines.find((line) => line.includes('a request failed')) ?? ''
    assert.ok(logged.includes(request_id))
    if (failure !== undefined) assert.ok(logged.includes('secret') || logged.includes('boom'), logged)
  }
})

test('an answer that does not fit its schema is an error of ours, where answers are checked', async () => {
  const wrong = { body: JSON.parse('{"step_id":7,"idempotency_key":"k"}') }
  const handlers = { ...standIns, getIdempotencyKey: async () => wrong }
  const { ask, lines } = openDoor({ handlers })
  assert.equal((await ask('GET', '/idempotency/step_1')).status, 500)
  assert.match(
    lines.join(''),
    /The answer of getIdempotencyKey does not fit its schema: .*step_id must be a string/,
  )
  const unchecked = openDoor({ handlers, checkAnswers: false })
  assert.equal((await unchecked.ask('GET', '/idempotency/step_1')).status, 200)
})

test('an unknown path is 404 in the shape of every error, and is not repeated at length', async () => {
  const { ask } = openDoor()
  const response = await ask('GET', `/nowhere/${'x'.repeat(10_000)}`)
  assert.equal(response.status, 404)
  const answer = await said(response)
  assert.equal(answer.error_type, 'not_found')
  assert.match(answer.detail, /^Nothing is served at \/nowhere\/x+\. GET \/docs shows what is$/)
  assert.ok(JSON.stringify(answer).length < 1500)
  assert.equal((await ask('GET', '/')).status, 404)
})

test('a request has an id: its own if it is one, else a new one', async () => {
  const { ask, seen } = openDoor()
  const idOf = async (sent?: string) => {
    const response = await ask(
      'GET',
      '/health',
      sent === undefined ? {} : { headers: { 'x-request-id': sent } },
    )
    return response.headers.get('x-request-id') ?? ''
  }
  assert.equal(await idOf('trace:7f.A_b-1'), 'trace:7f.A_b-1')
  assert.equal(seen.at(-1)?.caller.requestId, 'trace:7f.A_b-1')
  const uuid = /^[0-9a-f-]{36}$/
  for (const odd of [undefined, '', 'a b', 'x'.repeat(101), 'a"b', '\u001b[31m', 'é'].slice(0, 5))
    assert.match(await idOf(odd), uuid, odd)
})

test('every answer, good or bad, forbids what a browser might do with it', async () => {
  const { ask, send } = openDoor({ tokens: ALL_TOKENS })
  const answers = [
    await ask('GET', '/health'),
    await ask('GET', '/admin/leader'),
    await ask('GET', '/nowhere', { headers: bearer(TOKENS.viewer) }),
    await ask('DELETE', '/submit', { headers: bearer(TOKENS.viewer) }),
    await send('/submit', '{', bearer(TOKENS.producer)),
  ]
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 401, 404, 405, 400],
  )
  for (const { headers, status } of answers) {
    assert.equal(headers.get('x-content-type-options'), 'nosniff', String(status))
    assert.equal(headers.get('referrer-policy'), 'no-referrer')
    assert.equal(headers.get('cache-control'), 'no-store')
    assert.match(headers.get('content-security-policy') ?? '', /^default-src 'none'; frame-ancestors 'none'/)
    assert.equal(headers.get('access-control-allow-origin'), null)
    assert.equal(headers.get('x-powered-by'), null)
  }
})

test('a handler learns who calls', async () => {
  const { ask, seen } = openDoor({ tokens: ALL_TOKENS })
  await ask('GET', '/admin/leader', { headers: { ...bearer(TOKENS.operator), prefer: 'return=minimal' } })
  const caller = seen[0]?.caller
  assert.equal(caller?.role, 'operator')
  assert.equal(caller?.header('prefer'), 'return=minimal')
  assert.equal(caller?.header('none'), undefined)
})

test('whoever observes is told of every answer and of the operation behind it', async () => {
  const told: string[] = []
  const { ask, send } = openDoor({
    observe: ({ operation, status }) => void told.push(`${operation} ${status}`),
  })
  await ask('GET', '/health')
  await send('/submit', '{')
  await ask('GET', '/nowhere')
  assert.deepEqual(told, ['getHealth 200', 'submitStep 400', 'undefined 404'])
})

test('what stands in a path is escaped in the log', async () => {
  const { ask, lines } = openDoor()
  await ask('GET', '/status/%0a%1b%5b31m%e2%80%ae')
  await failing(new Error('\u001b[31m\r\nforged line')).ask('GET', '/status/x')
  for (const line of lines) {
    assert.equal(line.trimEnd().split('\n').length, 1)
    assert.ok(!line.includes('\u001b'))
  }
})
