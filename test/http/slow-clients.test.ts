import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { after, test } from 'node:test'
import { serveHttp, type Limits } from '../../src/http/listen.ts'
import { until } from '../support/until.ts'
import { openDoor } from './door.ts'
import { standIns } from './stand-ins.ts'

/** Short, so that what takes half a minute takes a second here; each test lasts until the door has acted. */
const SHORT: Partial<Limits> = {
  headersTimeout: 1000,
  requestTimeout: 1500,
  keepAliveTimeout: 300,
  connectionsCheckingInterval: 50,
  answerTimeout: 100,
  connectionsMax: 2010,
}

const HUGE = 'x'.repeat(20_000_000)
const { app } = openDoor({
  checkAnswers: false,
  handlers: {
    ...standIns,
    getStatus: async (input, caller) => {
      const answer = await standIns.getStatus(input, caller)
      return { ...answer, body: { ...answer.body, result: HUGE } }
    },
  },
})
const door = await serveHttp(app, { host: '127.0.0.1', port: 0, limits: SHORT })
after(() => door.close({ graceMs: 0 }))

const isServed = async ({ port } = door) => {
  const response = await fetch(`http://127.0.0.1:${port}/health`)
  await response.text()
  return response.status === 200
}

/** A client that goes on with its work until it is cut off; and what it was told. */
function slowClient(
  work: (socket: Socket) => void,
  { everyMs = 20, port = door.port } = {},
): { closed: Promise<string>; isOpen(): boolean } {
  let text = ''
  let open = true
  const socket = connect(port, '127.0.0.1')
  const timer = setInterval(() => work(socket), everyMs)
  const closed = new Promise<string>((resolve) => {
    socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
    socket.on('error', () => {})
    socket.on('close', () => {
      clearInterval(timer)
      open = false
      resolve(text)
    })
  })
  return { closed, isOpen: () => open }
}

const dripping = (text: string) => {
  let at = 0
  return (socket: Socket) => void socket.write(text[at++ % text.length] ?? '')
}

test('a head that comes a byte at a time is cut off with 408, and others are served meanwhile', async () => {
  const head = `GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ${'x'.repeat(1000)}`
  const client = slowClient(dripping(head))
  while (client.isOpen()) assert.ok(await isServed())
  assert.match(await client.closed, /^HTTP\/1\.1 408 Request Timeout\r\n[^]*connection: close/)
})

test('a body that comes a byte at a time is cut off with 408, and its handler never runs', async () => {
  let began = false
  const body = dripping('{"type":"a","args":{}}')
  const client = slowClient((socket) => {
    if (began) body(socket)
    else
      socket.write(
        'POST /submit HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n',
      )
    began = true
  })
  while (client.isOpen()) assert.ok(await isServed())
  const text = await client.closed
  assert.match(text, /^HTTP\/1\.1 408 /)
  assert.equal(text.match(/HTTP\/1\.1/g)?.length, 1)
})

test('a client that does not read its answer is cut off, and the answer leaves the memory', async () => {
  // To write the answer down blocks this process, and others with it: no head may be late for that alone.
  const impatient = await serveHttp(app, {
    host: '127.0.0.1',
    port: 0,
    limits: { answerTimeout: 100, keepAliveTimeout: 300 },
  })
  after(() => impatient.close({ graceMs: 0 }))
  let asked = false
  const client = slowClient((socket) => {
    socket.pause()
    // Between requests a line break means nothing; it shows when the other side is gone.
    socket.write(asked ? '\r\n' : 'GET /status/a HTTP/1.1\r\nHost: localhost\r\n\r\n')
    asked = true
  }, impatient)
  while (client.isOpen()) assert.ok(await isServed(impatient))
  const text = await client.closed
  assert.ok(text.length < HUGE.length, 'it did not get all of it')
})

test('a client that reads a large answer gets all of it', async () => {
  const patient = await serveHttp(app, { host: '127.0.0.1', port: 0 })
  after(() => patient.close({ graceMs: 0 }))
  const response = await fetch(`http://127.0.0.1:${patient.port}/status/a`)
  let size = 0
  for await (const chunk of response.body ?? []) size += chunk.byteLength
  assert.ok(size > HUGE.length)
})

test('2,000 sockets that say nothing keep nobody out, and are closed', async () => {
  const idle: { isOpen(): boolean }[] = []
  while (idle.length < 2000) {
    for (let i = 0; i < 100; i++) idle.push(slowClient(() => {}, { everyMs: 100_000 }))
    assert.ok(await isServed())
  }
  while (idle.some((client) => client.isOpen())) assert.ok(await isServed())
})

test('a connection more than may be is closed before it is read, and taken again when there is room', async () => {
  const few = await serveHttp(app, {
    host: '127.0.0.1',
    port: 0,
    limits: { ...SHORT, connectionsMax: 3, headersTimeout: 1000, requestTimeout: 1000 },
  })
  after(() => few.close({ graceMs: 0 }))
  const open = new Set<Socket>()
  const knock = () => {
    const socket = connect(few.port, '127.0.0.1')
    socket.on('error', () => {})
    socket.resume()
    socket.on('connect', () => open.add(socket))
    socket.on('close', () => open.delete(socket))
    return new Promise<void>((resolve) => socket.once('connect', resolve).once('close', resolve))
  }
  for (let i = 0; i < 3; i++) await knock()
  assert.equal(open.size, 3)
  await assert.rejects(fetch(`http://127.0.0.1:${few.port}/health`))
  await until('the silent ones to be cut off', () => open.size === 0)
  assert.equal((await fetch(`http://127.0.0.1:${few.port}/health`)).status, 200)
})
