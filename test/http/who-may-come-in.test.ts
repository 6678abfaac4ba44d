import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mayUse, ROLES, type Role } from '../../src/access/role.ts'
import type { Spec } from '../../src/http/endpoint.ts'
import { specs } from '../../src/http/specs.ts'
import { ALL_TOKENS, bearer, openDoor, said, TOKENS } from './door.ts'

const guarded = { tokens: ALL_TOKENS, openAccess: false }
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

const table = Object.values<Spec>(specs)
const spelled = (spec: Spec) => spec.path.replaceAll('{token_id}', '7').replaceAll(/\{\w+\}/g, 'x')
const bodyOf = (spec: Spec) => (spec.body && !spec.bodyOptional ? { body: EXAMPLES[spec.name] ?? '{}' } : {})
const json = { 'content-type': 'application/json' }

/** A body for each operation that needs one. */
const EXAMPLES: Record<string, string> = {
  submitStep: '{"type":"a","args":{}}',
  submitBatch: '{"steps":[{"type":"a","args":{}}]}',
  cancelSteps: '{"filter":{"type":"a"}}',
  retrySteps: '{"filter":{"type":"a"}}',
  pause: '{"type":"a"}',
  setLimit: '{"type":"a","max_running":1}',
  resume: '{"type":"a"}',
  createToken: '{"name":"a","role":"viewer"}',
  startExecution: '{"task_name":"order"}',
}

test('every operation lets in its role and those above, and nobody else', async () => {
  const { ask, seen } = openDoor(guarded)
  for (const spec of table) {
    for (const held of [undefined, ...ROLES]) {
      seen.length = 0
      const headers = { ...json, ...(held && bearer(TOKENS[held])) }
      const response = await ask(spec.method, spelled(spec), { headers, ...bodyOf(spec) })
      const expected =
        held === undefined
          ? spec.role === 'public'
            ? spec.status
            : 401
          : mayUse(held, spec.role)
            ? spec.status
            : 403
      assert.equal(
        response.status,
        expected,
        `${spec.name} as ${held ?? 'nobody'}: ${await response.clone().text()}`,
      )
      assert.equal(seen.length, expected < 300 ? 1 : 0, 'the handler runs only for who is let in')
      if (expected === 403) assert.equal((await said(response)).error_type, 'permission_denied')
    }
  }
})

test('a page has a role as an operation has one', async () => {
  const page = (path: `/${string}`, role: Role) => ({ path, role, answer: () => new Response('hello') })
  const { ask } = openDoor({
    ...guarded,
    pages: [page('/for/operators', 'operator'), page('/for/all', 'public')],
  })
  const status = async (path: string, headers = {}) => (await ask('GET', path, { headers })).status
  assert.equal(await status('/for/operators'), 401)
  assert.equal(await status('/for/operators', bearer(TOKENS.producer)), 403)
  assert.equal(await status('/for/operators', bearer(TOKENS.operator)), 200)
  assert.equal(await status('/for/all'), 200)
  assert.equal((await ask('POST', '/for/all', { headers: bearer(TOKENS.admin) })).headers.get('allow'), 'GET')
})

test('only health and readiness are public', () => {
  const names = table.filter(({ role }) => role === 'public').map(({ path }) => path)
  assert.deepEqual(names, ['/health', '/readyz'])
})

/** Ways to spell a path that some router takes for the path itself (F85). */
const spellings = (path: string) => [
  `/${path}`,
  `/${path.replaceAll('/', '//')}`,
  path.replace(/.$/, (last) => `%${last.charCodeAt(0).toString(16)}`),
  `/%${path.charCodeAt(1).toString(16)}${path.slice(2)}`,
  path.replaceAll('/', '%2F').replace('%2F', '/'),
  `${path}/`,
  `${path}//`,
  `${path}/.`,
  `${path};x=1`,
  `${path}%00`,
  `${path}%20`,
  `${path}.json`,
  `${path}#x`,
  `/x/..${path}`,
  `/.${path}`,
  path.toUpperCase(),
  path.replace(/^\/(.)/, (_, first: string) => `/${first.toUpperCase()}`),
  path.replaceAll('/', '\\').replace('\\', '/'),
]

test('no other spelling of any path reaches a handler without a token', async () => {
  const { app, seen } = openDoor(guarded)
  for (const path of [...table.map(spelled), '/docs', '/openapi.json', '/docs/style.css'])
    for (const spelling of spellings(path)) {
      // URL takes dots and backslashes out before anything is sent; raw ones are sent over a socket elsewhere.
      const url = `http://localhost:8000${spelling}`
      const isPublic = ['/health', '/readyz'].includes(new URL(url).pathname) && !spelling.includes('#')
      if (isPublic) continue
      for (const method of METHODS) {
        const response = await app.request(url, { method })
        assert.equal(response.status, 401, `${method} ${spelling}`)
        assert.match(response.headers.get('www-authenticate') ?? '', /^Bearer/)
      }
    }
  assert.deepEqual(seen, [])
})

test('with a token another spelling is another path: 404, or 405 where only the method is wrong', async () => {
  const { app, seen } = openDoor(guarded)
  for (const path of ['/health', '/admin/leader', '/submit', '/admin/recovery/run', '/docs'])
    for (const spelling of spellings(path)) {
      const url = `http://localhost:8000${spelling}`
      if (new URL(url).pathname === path) continue
      for (const method of METHODS) {
        const response = await app.request(url, { method, headers: bearer(TOKENS.admin) })
        assert.equal(response.status, 404, `${method} ${spelling}`)
      }
    }
  assert.deepEqual(seen, [])
})

test('every method that a path does not have is refused: 401 without a token, 405 and Allow with one', async () => {
  const { ask, seen } = openDoor(guarded)
  for (const spec of table) {
    const allowed = table.filter((other) => spelled(other) === spelled(spec)).map(({ method }) => method)
    for (const method of [...METHODS, 'PROPFIND', 'QUERY']) {
      if (allowed.some((one) => one === method)) continue
      assert.equal((await ask(method, spelled(spec))).status, 401, `${method} ${spec.path}`)
      const response = await ask(method, spelled(spec), { headers: bearer(TOKENS.admin) })
      assert.equal(response.status, 405, `${method} ${spec.path}`)
      assert.equal(response.headers.get('allow'), allowed.join(', '))
      if (method !== 'HEAD') assert.equal((await said(response)).error_type, 'method_not_allowed')
    }
  }
  assert.deepEqual(seen, [])
})

test('a header does not change the method', async () => {
  const { ask, seen } = openDoor(guarded)
  for (const name of ['x-http-method-override', 'x-http-method', 'x-method-override'])
    for (const [method, other] of [
      ['GET', 'POST'],
      ['POST', 'GET'],
    ] as const) {
      const headers = { ...json, ...bearer(TOKENS.admin), [name]: other }
      const path = method === 'GET' ? '/admin/recovery/run' : '/admin/leader'
      assert.equal((await ask(method, path, { headers })).status, 405)
      assert.equal((await ask(method, `${path}?_method=${other}`, { headers })).status, 405)
    }
  assert.deepEqual(seen, [])
})

test('a token is known by all of it and by nothing else', async () => {
  const { ask } = openDoor(guarded)
  const status = async (authorization: string) =>
    (await ask('GET', '/admin/leader', { headers: { authorization } })).status
  assert.equal(await status(`Bearer ${TOKENS.viewer}`), 200)
  assert.equal(await status(`bearer ${TOKENS.viewer}`), 200)
  for (const wrong of [
    '',
    'Bearer',
    'Bearer ',
    TOKENS.viewer,
    `Basic ${TOKENS.viewer}`,
    `Bearer ${TOKENS.viewer}x`,
    `Bearer ${TOKENS.viewer.slice(0, -1)}`,
    `Bearer ${TOKENS.viewer.toUpperCase()}`,
    `Bearer ${TOKENS.viewer}, Bearer ${TOKENS.viewer}`,
    `Bearer viewer:${TOKENS.viewer}`,
    `Bearer ${'x'.repeat(8000)}`,
  ])
    assert.equal(await status(wrong), 401, wrong.slice(0, 60))
})

test('of two roles with one token the higher counts', async () => {
  const { ask } = openDoor({
    openAccess: false,
    tokens: ['viewer', 'admin', 'producer'].map((role) => ({
      role: ROLES.find((r) => r === role) ?? 'viewer',
      token: 'the same for all of them',
    })),
  })
  const response = await ask('POST', '/admin/recovery/run', { headers: bearer('the same for all of them') })
  assert.equal(response.status, 200)
})

test('no token configured and no open access: nobody comes in', async () => {
  const { ask } = openDoor({ tokens: [], openAccess: false })
  assert.equal((await ask('GET', '/admin/leader')).status, 401)
  assert.equal((await ask('GET', '/admin/leader', { headers: bearer('') })).status, 401)
  assert.equal((await ask('GET', '/health')).status, 200)
})

test('a refusal is logged with who, what and where, and never with the token', async () => {
  const { ask, lines } = openDoor(guarded)
  await ask('POST', '/admin/recovery/run', { headers: bearer(TOKENS.viewer) })
  await ask('GET', '/admin/leader?token=secret-in-the-query', { headers: bearer('guessed-token-0123456789') })
  const refused = lines.filter((line) => line.includes('a request was refused'))
  assert.equal(refused.length, 2)
  assert.match(refused[0] ?? '', /"role":"viewer".*needs the role operator/)
  assert.doesNotMatch(lines.join(''), /token-0123456789|secret-in-the-query/)
})

test('without tokens only the names of this machine are served, so that no page can rebind its own to us', async () => {
  const { app } = openDoor()
  const status = async (host: string) => (await app.request(`http://${host}/admin/leader`)).status
  for (const host of [
    'localhost',
    'localhost:8000',
    '127.0.0.1:8000',
    '127.1.2.3',
    '[::1]:8000',
    'LOCALHOST',
  ])
    assert.equal(await status(host), 200, host)
  for (const host of [
    'evil.example',
    'evil.example:8000',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    '192.168.1.7',
    'localhost.',
    '0.0.0.0',
    '[::ffff:127.0.0.1]',
  ])
    assert.equal(await status(host), 403, host)
  const behindProxy = openDoor({ hosts: ['fleet.internal'] }).app
  assert.equal((await behindProxy.request('http://fleet.internal/health')).status, 200)
  assert.equal((await behindProxy.request('http://fleet.internal:8000/health')).status, 200)
  assert.equal((await behindProxy.request('http://other.internal/health')).status, 403)
  assert.equal((await openDoor({ hosts: 'any' }).app.request('http://other.internal/health')).status, 200)
})

test('with tokens any name will do: the token is what counts', async () => {
  const { app } = openDoor(guarded)
  assert.equal(
    (await app.request('http://fleet.example/admin/leader', { headers: bearer(TOKENS.viewer) })).status,
    200,
  )
})

test('a page of another origin changes nothing, even without a body that a preflight would announce', async () => {
  const { ask, seen } = openDoor()
  for (const origin of ['http://evil.example', 'null', 'http://localhost:3000', 'https://localhost:80000'])
    assert.equal((await ask('POST', '/admin/recovery/run', { headers: { origin } })).status, 403, origin)
  assert.deepEqual(seen, [])
  assert.equal(
    (await ask('POST', '/admin/recovery/run', { headers: { origin: 'http://localhost:8000' } })).status,
    200,
  )
  const preflight = await ask('OPTIONS', '/submit', {
    headers: { origin: 'http://evil.example', 'access-control-request-method': 'POST' },
  })
  assert.equal(preflight.status, 403)
  for (const name of preflight.headers.keys()) assert.ok(!name.startsWith('access-control'), name)
})
