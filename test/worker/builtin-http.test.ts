import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import { createServer as createTcpServer, type Server } from 'node:net'
import { test, type TestContext } from 'node:test'
import { z } from 'zod'
import { NonRetryableError, Wish, type StepContext } from '../../src/step/handler.ts'
import { httpStep } from '../../src/worker/builtin/http.ts'
import type { Resolve } from '../../src/worker/builtin/request.ts'
import { stepContext } from '../../src/testing.ts'

const LOOPBACK = ['http://127.0.0.1:*', 'http://*.test:*=127.0.0.1']
const toLoopback: Resolve = (_, done) => done(null, [{ address: '127.0.0.1', family: 4 }])

test('an answer becomes a result with its status, a few headers and its text', async (t) => {
  const { url } = await serve(t, (_, answer) => {
    answer.setHeader('content-type', 'application/json').setHeader('set-cookie', 'a=b').end('{"ok":true}')
  })
  const result = await call({ url })
  assert.equal(result.status, 200)
  assert.equal(result.body, '{"ok":true}')
  assert.equal(result.truncated, false)
  assert.deepEqual(result.headers, { 'content-type': 'application/json', 'content-length': '11' })
})

test('a request carries its method, its headers, its body and the key of the step', async (t) => {
  const { url, requests } = await serve(t, (_, answer) => answer.end())
  await call({ url: `${url}/orders?a=1`, method: 'POST', headers: { 'X-Team': 'shop' }, body: { id: 7 } })
  await call({ url, method: 'PUT', body: 'plain' })
  const [json, plain] = requests
  assert.equal(json?.method, 'POST')
  assert.equal(json?.url, '/orders?a=1')
  assert.equal(json?.body, '{"id":7}')
  assert.equal(json?.headers['content-type'], 'application/json')
  assert.equal(json?.headers['x-team'], 'shop')
  assert.equal(json?.headers['idempotency-key'], 'key-of-step')
  assert.equal(plain?.body, 'plain')
  assert.equal(plain?.headers['content-type'], 'text/plain; charset=utf-8')
})

test('a key of the submitter cannot break out of its header, and a key in the arguments wins', async (t) => {
  const { url, requests } = await serve(t, (_, answer) => answer.end())
  await call({ url }, { idempotencyKey: 'a\r\nX-Admin: 1' })
  await call({ url, headers: { 'Idempotency-Key': 'mine' } })
  assert.equal(requests[0]?.headers['idempotency-key'], 'a%0D%0AX-Admin%3A%201')
  assert.equal(requests[0]?.headers['x-admin'], undefined)
  assert.equal(requests[1]?.headers['idempotency-key'], 'mine')
})

test('headers of the connection, repeated headers and line breaks are refused', () => {
  const refused: Record<string, string>[] = [
    ...words(`
      Host host Connection Content-Length Transfer-Encoding TE Upgrade Expect Trailer Keep-Alive
      Proxy-Authorization Proxy-Connection HTTP2-Settings a:b ä
    `),
    '',
    'a b',
    'a\r\nb',
  ].map((name) => ({ [name]: 'x' }))
  refused.push({ 'x-a': 'a\r\nHost: evil' }, { 'x-a': 'a\nb' }, { 'x-a': 'a\0b' }, { 'x-a': '日' })
  refused.push({ Accept: 'a', accept: 'b' }, { 'x-a': 'a'.repeat(13_000) })
  for (const headers of refused)
    assert.equal(parse({ url: 'http://127.0.0.1/', headers }).success, false, JSON.stringify(headers))
})

test('4xx ends the step, 5xx and 429 ask for another attempt, expect_status says otherwise', async (t) => {
  const { url } = await serve(t, (request, answer) => {
    answer.writeHead(Number(request.url?.slice(1))).end('reason')
  })
  for (const status of [400, 401, 404, 409, 422])
    await assert.rejects(call({ url: `${url}/${status}` }), (error) => {
      assert.ok(error instanceof NonRetryableError)
      assert.match(
        error.message,
        new RegExp(`GET http://127.0.0.1:\\d+/${status} answered ${status}: reason`),
      )
      return true
    })
  for (const status of [408, 425, 429, 500, 502, 503])
    await assert.rejects(call({ url: `${url}/${status}` }), (error) => !(error instanceof NonRetryableError))
  assert.equal((await call({ url: `${url}/404`, expect_status: [200, 404] })).status, 404)
  assert.equal((await call({ url: `${url}/503`, expect_status: 503 })).status, 503)
  await assert.rejects(
    call({ url: `${url}/202`, expect_status: 200 }),
    /answered 202: reason \(expect_status/,
  )
})

test('Retry-After says when the next attempt is, by the clock of the server and at most a day away', async (t) => {
  const { url } = await serve(t, (request, answer) => {
    const query = new URL(request.url ?? '/', 'http://x').searchParams
    const date = query.get('date')
    if (date !== null) answer.setHeader('date', date)
    answer.writeHead(429, { 'retry-after': query.get('after') ?? '' }).end()
  })
  const afterMs = async (query: Record<string, string>) => {
    const wish = await run({ url: `${url}/?${new URLSearchParams(query).toString()}` })
    assert.ok(wish instanceof Wish)
    assert.equal(wish.kind, 'retry')
    return wish.afterMs
  }
  const date = 'Wed, 21 Oct 2015 07:28:00 GMT'
  assert.equal(await afterMs({ after: '7' }), 7000)
  assert.equal(await afterMs({ after: '99999999' }), 86_400_000)
  assert.equal(await afterMs({ after: 'Wed, 21 Oct 2015 07:29:30 GMT', date }), 90_000)
  assert.equal(await afterMs({ after: 'Wed, 21 Oct 2015 07:00:00 GMT', date }), 0)
  await assert.rejects(afterMs({ after: 'soon' }), /answered 429/)
})

test('a redirect is a result until following is asked for, and then a bounded number of hops', async (t) => {
  const { url, requests } = await serve(t, (request, answer) => {
    const hop = Number(request.url?.slice(1))
    if (hop === 0) answer.end('there')
    else answer.writeHead(302, { location: `/${hop - 1}` }).end()
  })
  const result = await call({ url: `${url}/1` })
  assert.deepEqual([result.status, result.headers.location], [302, '/0'])
  assert.equal((await call({ url: `${url}/5`, follow_redirects: 5 })).body, 'there')
  requests.length = 0
  await assert.rejects(call({ url: `${url}/9`, follow_redirects: 2 }), /redirected more than 2 times/)
  assert.equal(requests.length, 3)
  assert.equal(parse({ url, follow_redirects: 6 }).success, false)
})

test('another origin sees neither credentials nor cookies nor headers that could be either', async (t) => {
  const headers = { Authorization: 'Bearer s', Cookie: 'a=b', 'X-Api-Key': 'k', Accept: 'text/x' }
  const far = await serve(t, (_, answer) => answer.end('far'))
  const near = await serve(t, (request, answer) => {
    const location = request.url === '/near' ? '/end' : `${far.url.replace('127.0.0.1', 'far.test')}/`
    answer.writeHead(request.url === '/end' ? 200 : 307, { location }).end()
  })
  await call({ url: `${near.url}/near`, headers, follow_redirects: 1 })
  assert.equal(near.requests[1]?.headers.authorization, 'Bearer s')
  await call({ url: `${near.url}/far`, headers, follow_redirects: 1 })
  const [seen] = far.requests
  for (const name of ['authorization', 'cookie', 'x-api-key', 'idempotency-key'])
    assert.equal(seen?.headers[name], undefined, name)
  assert.equal(seen?.headers.accept, 'text/x')
})

test('a redirect keeps or drops method and body as browsers do', async (t) => {
  const { url, requests } = await serve(t, (request, answer) => {
    const status = Number(request.url?.slice(1))
    answer.writeHead(status === 0 ? 200 : status, { location: '/0' }).end()
  })
  for (const [status, method, body] of [
    [301, 'GET', ''],
    [302, 'GET', ''],
    [303, 'GET', ''],
    [307, 'POST', 'x'],
    [308, 'POST', 'x'],
  ] as const) {
    requests.length = 0
    await call({ url: `${url}/${status}`, method: 'POST', body: 'x', follow_redirects: 1 })
    assert.deepEqual([requests[1]?.method, requests[1]?.body], [method, body], String(status))
    assert.equal(requests[1]?.headers['content-type'] !== undefined, method === 'POST')
  }
})

test('64 KiB of an answer are kept, cut between two characters', async (t) => {
  const { url } = await serve(t, (_, answer) => answer.end(`x${'é'.repeat(100_000)}`))
  const result = await call({ url })
  assert.equal(result.truncated, true)
  assert.equal(result.body, `x${'é'.repeat(32_767)}`)
})

test('an answer without end is read for 1 MiB and then left', async (t) => {
  let sent = 0
  const { url } = await serve(t, (_, answer) => {
    const chunk = Buffer.alloc(16 * 1024, 'x')
    const more = () => {
      while (!answer.destroyed && answer.write(chunk)) sent += chunk.length
    }
    answer.on('drain', more)
    more()
  })
  const result = await call({ url })
  assert.equal(result.truncated, true)
  assert.equal(result.body.length, 64 * 1024)
  assert.ok(sent < 64 * 1024 * 1024)
})

test('an answer that drips is given up at the time limit, and can be tried again', async (t) => {
  const { url } = await serve(t, (_, answer) => {
    const drip = setInterval(() => answer.write('.'), 10)
    answer.on('close', () => clearInterval(drip))
  })
  await assert.rejects(
    call({ url, timeout_seconds: 0.2 }),
    (error) =>
      error instanceof Error &&
      !(error instanceof NonRetryableError) &&
      /gave no complete answer within 200 ms/.test(error.message),
  )
})

test('an abort of the step ends the call with its reason and closes the connection', async (t) => {
  const stop = new AbortController()
  const reason = new Error('the pod shuts down')
  let closed: Promise<unknown> = Promise.resolve()
  const { url } = await serve(t, (request) => {
    closed = once(request.socket, 'close')
    stop.abort(reason)
  })
  await assert.rejects(call({ url }, { signal: stop.signal }), reason)
  await closed
  await assert.rejects(call({ url }, { signal: stop.signal }), reason)
})

test('a connection that is refused, cut, upgraded or no HTTP can be tried again', async (t) => {
  const talk = async (bytes: string) => {
    const server = createTcpServer((socket) => socket.on('error', () => undefined).end(bytes))
    return `http://127.0.0.1:${await listen(t, server)}`
  }
  const free = createTcpServer()
  const freeUrl = `http://127.0.0.1:${await listen(t, free)}`
  await new Promise((done) => free.close(done))
  for (const url of [
    freeUrl,
    await talk(''),
    await talk('SSH-2.0-x\r\n'),
    await talk('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'),
    await talk('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf'),
    await talk(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`),
  ])
    await assert.rejects(
      call({ url }),
      (error) =>
        error instanceof Error && !(error instanceof NonRetryableError) && / failed: ./.test(error.message),
      url,
    )
})

test('a query, which may hold a secret, is in no error and no log line', async (t) => {
  const { url } = await serve(t, (_, answer) => answer.writeHead(500).end())
  const lines: string[] = []
  const log = { ...silent, info: (line: string) => lines.push(line) }
  await assert.rejects(
    call({ url: `${url}/a?token=s3cret` }, { log }),
    (error) => error instanceof Error && !error.message.includes('s3cret'),
  )
  assert.equal(lines.length, 1)
  assert.ok(!lines[0]?.includes('s3cret'))
})

test('text is decoded by its charset, or as UTF-8 where nobody knows the charset', async (t) => {
  const { url } = await serve(t, (request, answer) => {
    if (request.url === '/latin') answer.setHeader('content-type', 'text/plain; charset=iso-8859-1')
    if (request.url === '/unknown') answer.setHeader('content-type', 'text/plain; charset=none-such')
    answer.end(request.url === '/latin' ? Buffer.from([0xe9]) : 'aé')
  })
  assert.equal((await call({ url: `${url}/latin` })).body, 'é')
  assert.equal((await call({ url: `${url}/unknown` })).body, 'aé')
})

test('GET and HEAD carry no body, and HEAD has a result without one', async (t) => {
  const { url } = await serve(t, (_, answer) => answer.setHeader('content-length', 3).end())
  assert.equal(parse({ url, body: 'x' }).success, false)
  assert.equal(parse({ url, method: 'TRACE' }).success, false)
  assert.equal(parse({ url, method: 'CONNECT' }).success, false)
  const result = await call({ url, method: 'HEAD' })
  assert.deepEqual([result.status, result.body, result.headers['content-length']], [200, '', '3'])
})

const silent = { debug() {}, info() {}, warn() {}, error() {} }

function parse(args: unknown) {
  const step = httpStep({ allowHosts: LOOPBACK, resolve: toLoopback })
  assert.ok(step.input)
  return step.input.safeParse(args)
}

/** Runs the step as the runner would: the arguments pass `input` first. */
async function run(args: unknown, known: Partial<StepContext> = {}): Promise<unknown> {
  const step = httpStep({ allowHosts: LOOPBACK, resolve: toLoopback })
  const ctx = stepContext('http', { idempotencyKey: 'key-of-step', log: silent, ...known })
  return await step.run(step.input?.parse(args), ctx)
}

const RESULT = z.object({
  status: z.int(),
  headers: z.record(z.string(), z.string()),
  body: z.string(),
  truncated: z.boolean(),
})

const call = async (args: unknown, known?: Partial<StepContext>) => RESULT.parse(await run(args, known))

interface Seen extends Pick<IncomingMessage, 'method' | 'url' | 'headers'> {
  body: string
}

/** A server on loopback that remembers what it was asked. */
async function serve(t: TestContext, answer: RequestListener) {
  const requests: Seen[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { method, url, headers } = request
      requests.push({ method, url, headers, body: Buffer.concat(chunks).toString() })
      answer(request, response)
    })
  })
  const port = await listen(t, server)
  t.after(() => server.closeAllConnections())
  return { url: `http://127.0.0.1:${port}`, requests }
}

async function listen(t: TestContext, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const address = server.address()
  assert.ok(typeof address === 'object' && address !== null)
  return address.port
}

/** The words of a text, without the lines that begin with #. */
function words(text: string): string[] {
  const lines = text.split('\n').filter((line) => !line.trim().startsWith('#'))
  return lines.join(' ').trim().split(/\s+/)
}
