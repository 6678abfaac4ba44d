import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { LookupAddress } from 'node:dns'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { isIPv6, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { NonRetryableError } from '../../src/step/handler.ts'
import { httpStep, type HttpStepOptions } from '../../src/worker/builtin/http.ts'
import { resolveByDns, send, type Resolve } from '../../src/worker/builtin/request.ts'
import { stepContext } from '../../src/testing.ts'

const HTTP_MODULE = new URL('../../src/worker/builtin/http.ts', import.meta.url).href

/** Everything is allowed here, so that only the guard of addresses stands in the way. */
const WIDE_OPEN = ['*:*', 'http://*:*']

/** URLs that must be refused without a socket (F88). PORT is a server on loopback that nobody may reach. */
const REFUSED_URLS = [
  ...words(`
    # loopback, in every spelling
    http://127.0.0.1:PORT/ https://127.0.0.1/ http://127.0.0.2:PORT/ http://127.1:PORT/
    http://127.0.1:PORT/ http://2130706433:PORT/ http://0x7f000001:PORT/ http://0x7f.1:PORT/
    http://0177.0.0.1:PORT/ http://017700000001:PORT/ http://0x7f.0.0.0x1:PORT/ http://127.0.0.1.:PORT/
    http://①②⑦.⓪.⓪.①:PORT/ http://１２７.0.0.1:PORT/ http://127。0。0。1:PORT/ http://%31%32%37.0.0.1:PORT/
    http:127.0.0.1:PORT/ http:\\\\127.0.0.1:PORT\\ http:///127.0.0.1:PORT/ HTTP://127.0.0.1:PORT/
    http://[::1]:PORT/ http://[0:0:0:0:0:0:0:1]:PORT/ http://[0000::0001]:PORT/
    http://[::ffff:127.0.0.1]:PORT/ http://[::ffff:7f00:1]:PORT/ http://[0:0:0:0:0:ffff:7f00:0001]:PORT/
    http://[::127.0.0.1]:PORT/ http://[::ffff:0:127.0.0.1]:PORT/ http://[64:ff9b::127.0.0.1]:PORT/
    http://[64:ff9b:1::7f00:1]:PORT/ http://[2002:7f00:1::]:PORT/ http://[2001:0:7f00:1::1]:PORT/
    # unspecified: Linux connects to itself
    http://0.0.0.0:PORT/ http://0:PORT/ http://[::]:PORT/ http://[::ffff:0.0.0.0]:PORT/
    # metadata services
    http://169.254.169.254/latest/meta-data/ http://2852039166/ http://0xa9fea9fe/
    http://0xa9.0xfe.0xa9.0xfe/ http://0251.0376.0251.0376/ http://169.254.43518/
    http://[::ffff:169.254.169.254]/ http://[::ffff:a9fe:a9fe]/ http://[fd00:ec2::254]/
    http://100.100.100.200/ http://192.0.0.192/ http://168.63.129.16/ http://[64:ff9b::a9fe:a9fe]/
    http://[2002:a9fe:a9fe::]/
    # private, carrier-grade, link-local, unique-local, site-local
    http://10.0.0.1/ http://10.1/ http://172.16.0.1/ http://172.31.255.254/ http://192.168.1.1/
    http://192.168.257/ http://3232235777/ http://100.64.0.1/ http://[fe80::1]/ http://[fc00::1]/
    http://[fd12:3456:789a::1]/ http://[fec0::1]/
    # multicast, broadcast, reserved, documentation, benchmark
    http://224.0.0.1/ http://239.255.255.250/ http://[ff02::1]/ http://255.255.255.255/
    http://240.0.0.1/ http://192.0.2.1/ http://198.51.100.1/ http://203.0.113.1/ http://198.18.0.1/
    http://[2001:db8::1]/ http://[3fff::1]/ http://[100::1]/ http://192.88.99.1/
    # user and password, other schemes, no URL at all
    http://user@example.com/ http://user:pass@example.com/ http://example.com@127.0.0.1:PORT/
    http://127.0.0.1:PORT@example.com/ http://:@127.0.0.1:PORT/ file:///etc/passwd ftp://127.0.0.1/
    gopher://127.0.0.1:PORT/_x unix:/var/run/docker.sock data:text/plain,x javascript:alert(1)
    ws://127.0.0.1:PORT/ dict://127.0.0.1:PORT/ http+unix://%2Fvar%2Frun%2Fdocker.sock/
    jar:http://127.0.0.1!/ //127.0.0.1:PORT/ 127.0.0.1:PORT http:// http://[::1%25lo]:PORT/
    http://[fe80::1%eth0]/ http://127.0.0.1:99999/ http://256.256.256.256/
  `),
  '',
  'http://a b/',
  'ht\ntp://127.0.0.1:PORT/',
  ' http://127.0.0.1:PORT/',
  'http://127.0.0.1:PORT/\r\nX: y',
]

/** Addresses that a name of an attacker may stand for. */
const REFUSED_ADDRESSES = [
  ...words(`
    127.0.0.1 127.0.0.53 0.0.0.0 10.0.0.1 172.16.0.1 192.168.0.1 169.254.169.254 100.64.0.1 224.0.0.1
    255.255.255.255 192.0.2.1 198.18.0.1 168.63.129.16 ::1 :: ::ffff:127.0.0.1 ::ffff:a9fe:a9fe ::7f00:1
    fe80::1 fd00::1 ff02::1 64:ff9b::7f00:1 2002:7f00:1:: 2001:0:7f00:1::1 2001:db8::1 not-an-address
  `),
  '',
]

test('no spelling of an inner address, no credentials and no other scheme gets a socket', async (t) => {
  const canary = await listen(t, createServer())
  const urls = REFUSED_URLS.map((url) => url.replace('PORT', String(canary.port)))
  assert.ok(new Set(urls).size >= 60)
  const sockets = countSockets(t)
  const step = httpStep({ allowHosts: WIDE_OPEN, resolve: answers('127.0.0.1') })
  for (const url of urls) {
    assert.equal(step.input?.safeParse({ url }).success, false, `at submit: ${url}`)
    if (URL.canParse(url))
      await assertRefused(run({ allowHosts: WIDE_OPEN, resolve: answers('127.0.0.1') }, unchecked(url)), url)
  }
  assert.deepEqual([sockets.count, canary.connections()], [0, 0])
})

test('a name that stands for an inner address is not connected, whatever its other addresses are', async (t) => {
  const canary = await listen(t, createServer())
  for (const address of REFUSED_ADDRESSES)
    for (const found of [[address], [address, '127.0.0.1'], ['::1', address, '10.0.0.1']])
      await assertRefused(
        run(
          { allowHosts: WIDE_OPEN, resolve: answers(...found) },
          { url: `http://evil.test:${canary.port}/` },
        ),
        address,
      )
  assert.equal(canary.connections(), 0)
})

test('an address that is spelled out is checked once more where the connection is made', async (t) => {
  const sockets = countSockets(t)
  const hop = { method: 'GET', headers: {}, body: undefined, ca: undefined, resolve: resolveByDns }
  const { signal } = new AbortController()
  for (const url of ['http://127.0.0.1:1/', 'https://[::1]:1/'])
    await assertRefused(send({ ...hop, url: new URL(url), permits: () => false, signal }), url)
  assert.equal(sockets.count, 0)
})

test('names that this machine itself takes for loopback are refused, with the usual resolver', async (t) => {
  const canary = await listen(t, createServer())
  for (const name of ['localhost', 'LOCALHOST', 'localhost.'])
    await assertRefused(run({ allowHosts: WIDE_OPEN }, { url: `http://${name}:${canary.port}/` }), name)
  assert.equal(canary.connections(), 0)
})

test('a redirect cannot lead where a URL could not', async (t) => {
  const canary = await listen(t, createServer())
  let location = ''
  const redirects = createServer((_, answer) => answer.writeHead(302, { location }).end())
  const { port } = await listen(t, redirects)
  const allowHosts = [...WIDE_OPEN, `http://hop.test:${port}=127.0.0.1`]
  // What is no URL by itself is relative to the server that redirects, which may be called.
  const targets = REFUSED_URLS.map((url) => url.replace('PORT', String(canary.port))).filter(
    (url) =>
      /^[\x21-\x7e]+$/.test(url) &&
      !url.startsWith('http:1') &&
      !url.startsWith('127') &&
      URL.canParse(url, 'http://x'),
  )
  assert.ok(targets.length >= 60)
  for (location of targets)
    await assertRefused(
      run(
        { allowHosts, resolve: answers('127.0.0.1') },
        { url: `http://hop.test:${port}/`, follow_redirects: 5 },
      ),
      location,
    )
  assert.equal(canary.connections(), 0)
})

test('a name that changes its address between check and use is connected where it was checked', async (t) => {
  const server = await listen(
    t,
    createServer((_, answer) => answer.end('right')),
  )
  const { resolve, asked } = rebinding(['127.0.0.1'], ['127.0.0.2'])
  const allowHosts = [`http://rebind.test:*=127.0.0.1`]
  const result = await run({ allowHosts, resolve }, { url: `http://rebind.test:${server.port}/` })
  assert.equal(bodyOf(result), 'right')
  assert.equal(asked(), 1)
})

test('a name that changes its address between two hops is checked again', async (t) => {
  const server = await listen(
    t,
    createServer((_, answer) => answer.writeHead(302, { location: '/again' }).end()),
  )
  const { resolve, asked } = rebinding(['127.0.0.1'], ['127.0.0.2'])
  const allowHosts = [`http://rebind.test:*=127.0.0.1`]
  await assertRefused(
    run({ allowHosts, resolve }, { url: `http://rebind.test:${server.port}/`, follow_redirects: 3 }),
    'the second hop',
  )
  assert.deepEqual([asked(), server.connections()], [2, 1])
})

test('of several addresses only those that are allowed are connected', async (t) => {
  const server = await listen(
    t,
    createServer((request, answer) => answer.end(request.socket.localAddress)),
  )
  const resolve = answers('127.0.0.3', '::1', '10.0.0.1', '127.0.0.1')
  const allowHosts = ['http://mixed.test:*=127.0.0.1']
  const result = await run({ allowHosts, resolve }, { url: `http://mixed.test:${server.port}/` })
  assert.equal(bodyOf(result), '127.0.0.1')
})

test('an inner address is named in no error: names are not to be looked up through us', async () => {
  const call = run({ allowHosts: WIDE_OPEN, resolve: answers('10.11.12.13') }, { url: 'https://inner.test/' })
  await assert.rejects(call, (error) => error instanceof Error && !error.message.includes('10.11.12.13'))
})

test('a URL that two programs read in two ways is refused at submit', () => {
  const step = httpStep({ allowHosts: WIDE_OPEN, resolve: () => assert.fail('resolved') })
  for (const url of [
    'http://example.com\\@127.0.0.1/',
    'http://example.com:80\\@127.0.0.1/',
    'http://a\t.test/',
  ])
    assert.equal(step.input?.safeParse({ url }).success, false, url)
})

test('a host that is not on the list is refused at submit, and nothing is resolved', () => {
  const step = httpStep({ allowHosts: ['api.example.com'], resolve: () => assert.fail('resolved') })
  for (const url of ['https://example.com/', 'http://api.example.com/', 'https://api.example.com:8443/']) {
    const parsed = step.input?.safeParse({ url })
    assert.match(parsed?.error?.issues[0]?.message ?? '', /FLEET_Q_HTTP_ALLOW does not allow/)
  }
  assert.equal(step.input?.safeParse({ url: 'https://api.example.com/a' }).success, true)
})

test('a proxy in the environment is not used, behind which nothing could be checked', async (t) => {
  const proxy = await listen(
    t,
    createServer((_, answer) => answer.end('proxy')),
  )
  const server = await listen(
    t,
    createServer((_, answer) => answer.end('server')),
  )
  const script = `
    const { httpStep } = await import(${JSON.stringify(HTTP_MODULE)})
    const step = httpStep({ allowHosts: ['http://127.0.0.1:*'] })
    const ctx = { idempotencyKey: 'k', signal: new AbortController().signal, log: console }
    const result = await step.run(step.input.parse({ url: 'http://127.0.0.1:${server.port}/' }), ctx)
    console.log(result.body)`
  const address = `http://127.0.0.1:${proxy.port}`
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '-e', script],
    { env: { NODE_USE_ENV_PROXY: '1', HTTP_PROXY: address, http_proxy: address, ALL_PROXY: address } },
  )
  assert.match(stdout, /server\n$/)
  assert.equal(proxy.connections(), 0)
})

test('over https the certificate must be that of the name in the URL', async (t) => {
  const pair = certificateFor('right.test')
  if (pair === undefined) return t.skip('there is no openssl here to make a certificate with')
  const server = await listen(
    t,
    createTlsServer(pair, (_, answer) => answer.end('secret')),
  )
  const call = (name: string, ca?: string) =>
    run(
      {
        allowHosts: ['*.test:*=127.0.0.1'],
        resolve: answers('127.0.0.1'),
        ...(ca === undefined ? {} : { ca }),
      },
      { url: `https://${name}:${server.port}/` },
    )
  assert.equal(bodyOf(await call('right.test', pair.cert)), 'secret')
  await assert.rejects(call('wrong.test', pair.cert), /ERR_TLS_CERT_ALTNAME_INVALID/)
  await assert.rejects(call('right.test'), /DEPTH_ZERO_SELF_SIGNED_CERT/)
})

function certificateFor(name: string): { key: string; cert: string } | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-q-cert-'))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const subject = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`]
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  try {
    execFileSync('openssl', ['req', '-x509', ...kind, ...subject, '-keyout', key, '-out', cert], {
      stdio: 'ignore',
    })
    return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') }
  } catch {
    return undefined
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const found = (addresses: readonly string[]): LookupAddress[] =>
  addresses.map((address) => ({ address, family: isIPv6(address) ? 6 : 4 }))

const answers =
  (...addresses: string[]): Resolve =>
  (_, done) =>
    done(null, found(addresses))

/** A name server that gives another answer each time. */
function rebinding(...answersInTurn: string[][]) {
  let asked = 0
  const resolve: Resolve = (_, done) => done(null, found(answersInTurn[asked++] ?? []))
  return { resolve, asked: () => asked }
}

/** Arguments as they would be if the check at submit had let them through. */
const unchecked = (url: string) => ({
  parsed: { url, method: 'GET', headers: {}, timeout_seconds: 5, follow_redirects: 0 },
})

async function run(options: HttpStepOptions, args: Record<string, unknown>): Promise<unknown> {
  const step = httpStep({ resolve: resolveByDns, ...options })
  const ctx = stepContext('http')
  return await step.run(args.parsed ?? step.input?.parse(args), ctx)
}

function bodyOf(result: unknown): unknown {
  assert.ok(typeof result === 'object' && result !== null && 'body' in result)
  return result.body
}

const assertRefused = (call: Promise<unknown>, what: string) =>
  assert.rejects(call, (error) => {
    assert.ok(error instanceof NonRetryableError, `${what}: ${String(error)}`)
    assert.match(error.message, / was not called: /, what)
    return true
  })

/** Counts TCP sockets that this process opens as a client. */
function countSockets(t: TestContext) {
  const seen = { count: 0 }
  const onSocket = () => void seen.count++
  subscribe('net.client.socket', onSocket)
  t.after(() => unsubscribe('net.client.socket', onSocket))
  return seen
}

async function listen(t: TestContext, server: Server) {
  let connections = 0
  server.on('connection', () => void connections++)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const address = server.address()
  assert.ok(typeof address === 'object' && address !== null)
  return { port: address.port, connections: () => connections }
}

/** The words of a text, without the lines that begin with #. */
function words(text: string): string[] {
  const lines = text.split('\n').filter((line) => !line.trim().startsWith('#'))
  return lines.join(' ').trim().split(/\s+/)
}
