import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createKeyring } from '../../src/access/keyring.ts'
import type { Arrival } from '../../src/http/arrival.ts'
import { createGuard, type GuardOptions } from '../../src/http/guard.ts'
import { createRate } from '../../src/http/rate.ts'
import { serveHttp } from '../../src/http/listen.ts'
import { atEnd } from '../support/cleanup.ts'
import { ALL_TOKENS, bearer, openDoor, said, TOKENS } from './door.ts'

/** How often one caller may ask, and how often he may guess. */

const arrival = (from: string, headers: Record<string, string> = {}, path = '/admin/leader'): Arrival => ({
  method: 'GET',
  host: 'localhost',
  path,
  query: '',
  ip: from,
  header: (name) => headers[name],
  onGone: () => () => {},
  body: async () => new Uint8Array(),
})

const guardWith = (options: Partial<GuardOptions> = {}) => {
  const guard = createGuard({
    keyring: createKeyring(ALL_TOKENS, undefined),
    openAccess: false,
    hosts: [],
    publicPaths: new Set(['/health']),
    rateLimit: 0,
    proxyHops: 0,
    ...options,
  })
  /** What the caller is told: his role, or the code of the refusal. */
  return (...request: Parameters<typeof arrival>) => {
    try {
      const admitted = guard.admit(arrival(...request))
      return admitted instanceof Promise ? 'later' : `${admitted.role} from ${admitted.ip}`
    } catch (error) {
      return (error as { code: string }).code
    }
  }
}
const times = <T>(n: number, ask: () => T): T[] => Array.from({ length: n }, ask)
const count = (answers: string[], what: string) => answers.filter((answer) => answer === what).length

test('a bucket lets through its burst, then as many as the seconds bring, and says how long to wait', () => {
  const rate = createRate({ perSecond: 0.001, burst: 3 })
  assert.deepEqual(
    times(3, () => rate.take('a')),
    [0, 0, 0],
  )
  const wait = rate.take('a')
  assert.ok(wait > 990 && wait <= 1000, String(wait))
  assert.equal(rate.has('a'), false)
  assert.equal(rate.has('b'), true)
  assert.equal(rate.take('b'), 0, 'another key has a bucket of its own')
  const fast = createRate({ perSecond: 1e6, burst: 1 })
  assert.equal(
    count(
      times(1000, () => String(fast.take('a') >= 0)),
      'true',
    ),
    1000,
  )
})

test('a flood of addresses takes no more memory than ten thousand, and the oldest give way', () => {
  const rate = createRate({ perSecond: 0.001, burst: 1 })
  rate.take('first')
  for (let i = 0; i < 9_999; i++) rate.take(String(i))
  assert.equal(rate.has('first'), false, 'who asks is the last in line again')
  for (let i = 0; i < 9_999; i++) rate.take(String(i))
  rate.take('one more')
  assert.equal(rate.has('first'), true, 'its bucket was thrown out')
})

test('each token has its rate; another token, and the same from another address, are counted apart or together as they should be', () => {
  const ask = guardWith({ rateLimit: 2 })
  const viewer = bearer(TOKENS.viewer)
  assert.deepEqual(
    times(5, () => ask('10.0.0.1', viewer)),
    [...times(4, () => 'viewer from 10.0.0.1'), 'rate_limited'],
  )
  assert.equal(ask('10.0.0.2', viewer), 'rate_limited', 'the token is what counts')
  assert.equal(ask('10.0.0.1', bearer(TOKENS.admin)), 'admin from 10.0.0.1')
})

test('without a token each address has its rate, a network of IPv6 as one; probes are not counted', () => {
  const ask = guardWith({ rateLimit: 2 })
  assert.equal(
    count(
      times(6, () => ask('10.0.0.1')),
      'rate_limited',
    ),
    2,
  )
  assert.equal(ask('10.0.0.2'), 'unauthenticated')
  let n = 0
  assert.equal(
    count(
      times(6, () => ask(`2001:db8::${++n}`)),
      'rate_limited',
    ),
    2,
  )
  assert.equal(ask('2001:db8:0:1::1'), 'unauthenticated')
  assert.equal(
    count(
      times(50, () => ask('10.0.0.1', {}, '/health')),
      'public from 10.0.0.1',
    ),
    50,
  )
})

test('in open access this machine is not counted, and others are', () => {
  const ask = guardWith({
    keyring: createKeyring([], undefined),
    openAccess: true,
    hosts: 'any',
    rateLimit: 2,
  })
  assert.equal(
    count(
      times(50, () => ask('127.0.0.1')),
      'admin from 127.0.0.1',
    ),
    50,
  )
  assert.equal(
    count(
      times(50, () => ask('::1')),
      'admin from ::1',
    ),
    50,
  )
  assert.equal(
    count(
      times(6, () => ask('10.0.0.1')),
      'rate_limited',
    ),
    2,
  )
})

test('after ten wrong tokens an address waits, also with a right one, unless that has come from there before', () => {
  const ask = guardWith()
  const wrong = () => ask('10.0.0.1', bearer('a guess of somebody'))
  assert.equal(ask('10.0.0.1', bearer(TOKENS.viewer)), 'viewer from 10.0.0.1')
  assert.deepEqual(
    times(10, wrong),
    times(10, () => 'unauthenticated'),
  )
  assert.equal(wrong(), 'rate_limited')
  assert.equal(
    ask('10.0.0.1', bearer(TOKENS.admin)),
    'rate_limited',
    'or the right guess would be the one that is served',
  )
  assert.equal(
    ask('10.0.0.1', bearer(TOKENS.viewer)),
    'viewer from 10.0.0.1',
    'a neighbour behind one address',
  )
  assert.equal(ask('10.0.0.2', bearer(TOKENS.admin)), 'admin from 10.0.0.2')
})

test('X-Forwarded-For is believed as far as proxies of ours write it, and no further', () => {
  const header = { 'x-forwarded-for': '6.6.6.6, 10.0.0.9, 10.0.0.8' }
  const from = (hops: number, headers: Record<string, string> = header) =>
    guardWith({ proxyHops: hops })('10.0.0.1', { ...headers, ...bearer(TOKENS.viewer) })
  assert.equal(from(0), 'viewer from 10.0.0.1')
  assert.equal(from(1), 'viewer from 10.0.0.8')
  assert.equal(from(2), 'viewer from 10.0.0.9')
  assert.equal(from(9), 'viewer from 10.0.0.1', 'fewer entries than proxies: it has come another way')
  assert.equal(from(1, {}), 'viewer from 10.0.0.1')
  assert.equal(from(1, { 'x-forwarded-for': '10.0.0.7:5123' }), 'viewer from 10.0.0.7', 'some write the port')
  assert.equal(from(1, { 'x-forwarded-for': '[fd00::1]:5123' }), 'viewer from fd00::1')
  assert.equal(from(1, { 'x-forwarded-for': 'nonsense\r\n' }), 'viewer from 10.0.0.1')
})

test('over the wire it is 429 with Retry-After, words that help, and a line in the log without the token', async () => {
  const { app, lines } = openDoor({ tokens: ALL_TOKENS, openAccess: false, rateLimit: 1 })
  const server = await serveHttp(app, { host: '127.0.0.1', port: 0 })
  atEnd(() => server.close({ graceMs: 100 }))
  const ask = () => fetch(`http://127.0.0.1:${server.port}/admin/leader`, { headers: bearer(TOKENS.viewer) })
  let answer = await ask()
  for (let i = 0; i < 10 && answer.status === 200; i++) answer = await ask()
  assert.equal(answer.status, 429)
  assert.equal(answer.headers.get('retry-after'), '1')
  const { error_type, detail } = await said(answer)
  assert.equal(error_type, 'rate_limited')
  assert.match(detail, /More than 1 requests a second.*\/submit\/batch.*FLEET_Q_RATE_LIMIT/)
  assert.match(lines.join(''), /a request was refused/)
  assert.ok(!lines.join('').includes(TOKENS.viewer))
})

test('a place that declares no role serves nobody: the door is not even built', () => {
  const page = { path: '/open' as const, role: undefined as never, answer: () => new Response('') }
  assert.throws(() => openDoor({ pages: [page] }), /\/open declares no role/)
})
