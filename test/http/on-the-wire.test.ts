import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, test } from 'node:test'
import { FleetError } from '../../src/errors.ts'
import { serveHttp } from '../../src/http/listen.ts'
import { SECURE_HEADERS } from '../../src/http/respond.ts'
import { ALL_TOKENS, openDoor } from './door.ts'
import { standIns } from './stand-ins.ts'

const { app, seen, lines } = openDoor()
const open = await serveHttp(app, { host: '127.0.0.1', port: 0 })
const guarded = await serveHttp(openDoor({ tokens: ALL_TOKENS, openAccess: false }).app, {
  host: '127.0.0.1',
  port: 0,
})
after(() => Promise.all([open.close({ graceMs: 0 }), guarded.close({ graceMs: 0 })]))

/** Sends bytes as they are, and gives back all that comes until the server closes, or nothing more comes. */
function raw(
  text: string | Buffer,
  port = open.port,
  quietMs = 300,
): Promise<{ text: string; closed: boolean }> {
  return new Promise((resolve) => {
    let answer = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(text))
    const done = (closed: boolean) => {
      clearTimeout(quiet)
      socket.destroy()
      resolve({ text: answer, closed })
    }
    let quiet = setTimeout(done, 2000, false)
    socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString('latin1')
      clearTimeout(quiet)
      quiet = setTimeout(done, quietMs, false)
    })
    socket.on('end', () => done(true))
    socket.on('error', () => done(true))
  })
}

const statuses = (text: string) =>
  [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => Number(status))
const STEP = '{"type":"a","args":{}}'
const post = (headers: string[], body = STEP) =>
  ['POST /submit HTTP/1.1', 'Host: localhost', 'Content-Type: application/json', ...headers, '', body].join(
    '\r\n',
  )

test('a plain request is answered and the connection kept', async () => {
  const { text, closed } = await raw(post([`Content-Length: ${STEP.length}`]))
  assert.deepEqual(statuses(text), [201])
  assert.equal(closed, false)
})

test('what is not HTTP is answered in the shape of every error', async () => {
  const { text } = await raw('hello\r\n\r\n')
  const body = JSON.parse(text.slice(text.indexOf('\r\n\r\n')))
  assert.equal(body.error_type, 'validation_error')
  assert.equal(body.detail, 'This is not a valid HTTP request')
  for (const [name, value] of Object.entries(SECURE_HEADERS))
    assert.ok(text.includes(`${name}: ${value}`), name)
})

test('a body over a megabyte is cut off, told or untold, and never reaches the handler', async () => {
  seen.length = 0
  const told = await raw(post(['Content-Length: 1048577'], ''))
  assert.deepEqual(statuses(told.text), [413], 'before a byte of it was sent')
  const chunk = `10000\r\n${' '.repeat(65_536)}\r\n`
  const untold = await raw(post(['Transfer-Encoding: chunked'], chunk.repeat(17)))
  assert.deepEqual(statuses(untold.text), [413], 'before its end was sent')
  assert.match(untold.text, /connection: close/i)
  assert.deepEqual(seen, [])
})

test('a client that hangs up in the middle of its body is no error of ours', async () => {
  lines.length = 0
  await new Promise<void>((resolve) => {
    const socket = connect(open.port, '127.0.0.1', () => {
      socket.write(post(['Content-Length: 100'], '{"type":'))
      setTimeout(() => socket.destroy(), 50)
    })
    socket.on('close', () => setTimeout(resolve, 100))
  })
  assert.ok(
    lines.some((line) => line.includes('"status":400')),
    lines.join(''),
  )
  assert.ok(!lines.some((line) => line.includes('a request failed')), lines.join(''))
})

test('POST without any framing is a body that was left out', async () => {
  const { text } = await raw('POST /admin/recovery/run HTTP/1.1\r\nHost: localhost\r\n\r\n')
  assert.deepEqual(statuses(text), [200])
})

test('raw spellings that no URL library would send reach nothing without a token', async () => {
  for (const target of [
    '//admin/leader',
    '/x/../admin/leader',
    '/admin/./leader',
    '/%61dmin/leader',
    '/admin%2Fleader',
    '/admin\\leader',
    '/ADMIN/leader',
    '/admin/leader/',
    '/health/../admin/leader',
    '/health/',
    '/health%2F..%2Fadmin%2Fleader',
    '/health#/admin/leader',
    'http://localhost/admin/leader',
    'http://localhost/health/../admin/leader',
    '*',
  ])
    for (const method of ['GET', 'HEAD', 'POST', 'OPTIONS']) {
      const { text } = await raw(
        `${method} ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
        guarded.port,
      )
      assert.ok([400, 401].includes(statuses(text)[0] ?? 0), `${method} ${target}: ${text.slice(0, 200)}`)
    }
})

test('a rebound name in Host is refused on the wire as well', async () => {
  const { text } = await raw('GET /health HTTP/1.1\r\nHost: evil.example:8000\r\nConnection: close\r\n\r\n')
  assert.deepEqual(statuses(text), [403])
})

test('HEAD is answered without a body', async () => {
  const { text } = await raw('HEAD /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
  assert.deepEqual(statuses(text), [405])
  assert.match(text, /allow: GET/i)
  assert.equal(text.split('\r\n\r\n')[1], '')
})

test('a handler learns the address of the caller', async () => {
  seen.length = 0
  await fetch(`http://127.0.0.1:${open.port}/health`)
  assert.equal(seen[0]?.caller.ip, '127.0.0.1')
})

test('a taken port says so, and what to do', async () => {
  await assert.rejects(serveHttp(app, { host: '127.0.0.1', port: open.port }), (error) => {
    assert.ok(error instanceof FleetError)
    assert.equal(error.code, 'port_taken')
    assert.match(
      error.message,
      new RegExp(`^Port ${open.port} of 127\\.0\\.0\\.1 is taken .*FLEET_Q_API_PORT=${open.port + 1}$`),
    )
    return true
  })
})

test('an address that is not ours is a matter of configuration', async () => {
  await assert.rejects(serveHttp(app, { host: '192.0.2.1', port: 0 }), (error) => {
    assert.ok(error instanceof FleetError)
    assert.equal(error.code, 'config_invalid')
    return true
  })
})

test('closing lets what is under way end, closes idle connections, and takes nothing new', async () => {
  const { started, release, listening } = await slowDoor()
  const answer = fetch(`http://127.0.0.1:${listening.port}/status/slow`)
  const idle = raw('GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n', listening.port, 2000)
  await started
  await new Promise((resolve) => setTimeout(resolve, 50))
  const closed = listening.close({ graceMs: 5000 })
  await assert.rejects(fetch(`http://127.0.0.1:${listening.port}/health`))
  assert.equal((await idle).closed, true)
  release()
  assert.equal((await answer).status, 200)
  await closed
})

test('closing cuts what does not end in time', async () => {
  const { started, listening } = await slowDoor()
  const answer = assert.rejects(fetch(`http://127.0.0.1:${listening.port}/status/slow`))
  await started
  await listening.close({ graceMs: 20 })
  await answer
})

/** A door whose /status answers when it is released. */
async function slowDoor() {
  const gates: { start: () => void; release: () => void } = { start: () => {}, release: () => {} }
  const started = new Promise<void>((resolve) => (gates.start = resolve))
  const released = new Promise<void>((resolve) => (gates.release = resolve))
  const slow = openDoor({
    handlers: {
      ...standIns,
      getStatus: async (input, caller) => {
        gates.start()
        await released
        return standIns.getStatus(input, caller)
      },
    },
  })
  const listening = await serveHttp(slow.app, { host: '127.0.0.1', port: 0 })
  return { started, release: () => gates.release(), listening }
}
