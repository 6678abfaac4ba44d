import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FleetError } from '../../src/errors.ts'
import { parseAllow, permitFor } from '../../src/worker/builtin/allow.ts'

const mayCall = (entry: string, url: string) => permitFor(new URL(url), parseAllow([entry])) !== undefined
const mayConnect = (entry: string, url: string, address: string) =>
  permitFor(new URL(url), parseAllow([entry]))?.(address) ?? false

test('a host alone means https on its usual port', () => {
  assert.equal(mayCall('api.example.com', 'https://api.example.com/orders'), true)
  assert.equal(mayCall('API.example.com', 'https://api.EXAMPLE.com./orders'), true)
  assert.equal(mayCall('api.example.com', 'http://api.example.com/orders'), false)
  assert.equal(mayCall('api.example.com', 'https://api.example.com:8443/'), false)
  assert.equal(mayCall('api.example.com', 'https://example.com/'), false)
  assert.equal(mayCall('api.example.com', 'https://x.api.example.com/'), false)
  assert.equal(mayCall('api.example.com', 'https://api.example.com.evil.test/'), false)
})

test('http and other ports are allowed by saying so', () => {
  assert.equal(mayCall('http://api.example.com', 'http://api.example.com/'), true)
  assert.equal(mayCall('http://api.example.com', 'https://api.example.com/'), false)
  assert.equal(mayCall('api.example.com:8443', 'https://api.example.com:8443/'), true)
  assert.equal(mayCall('api.example.com:8443', 'https://api.example.com/'), false)
  assert.equal(mayCall('http://api.example.com:8080', 'http://api.example.com:8080/'), true)
  assert.equal(mayCall('api.example.com:8443', 'http://api.example.com:8443/'), false)
  assert.equal(mayCall('api.example.com:*', 'https://api.example.com:1/'), true)
  assert.equal(mayCall('api.example.com:*', 'http://api.example.com:1/'), false)
})

test('a star stands for every name below one, not for the name itself and not for its look-alikes', () => {
  assert.equal(mayCall('*.example.com', 'https://a.example.com/'), true)
  assert.equal(mayCall('*.example.com', 'https://a.b.example.com/'), true)
  assert.equal(mayCall('*.example.com', 'https://example.com/'), false)
  assert.equal(mayCall('*.example.com', 'https://evilexample.com/'), false)
})

test('a name may be connected at public addresses only', () => {
  assert.equal(mayConnect('api.example.com', 'https://api.example.com/', '93.184.216.34'), true)
  assert.equal(mayConnect('api.example.com', 'https://api.example.com/', '10.0.0.1'), false)
  assert.equal(mayConnect('*', 'https://anything.test/', '127.0.0.1'), false)
  assert.equal(mayConnect('*', 'https://127.0.0.1/', '127.0.0.1'), false)
})

test('a name with a range may be connected inside that range only', () => {
  const entry = 'http://orders.shop.svc:8080=10.96.0.0/12'
  assert.equal(mayConnect(entry, 'http://orders.shop.svc:8080/', '10.100.1.1'), true)
  assert.equal(mayConnect(entry, 'http://orders.shop.svc:8080/', '10.1.1.1'), false)
  assert.equal(mayConnect(entry, 'http://orders.shop.svc:8080/', '93.184.216.34'), false)
  assert.equal(mayCall(entry, 'http://10.100.1.1:8080/'), false)
  assert.equal(mayConnect('db.test=[fd00::/8]', 'https://db.test/', 'fd12::1'), true)
})

test('an address or a range allows URLs that spell the address out, and no name', () => {
  assert.equal(mayConnect('http://10.1.2.3', 'http://10.1.2.3/', '10.1.2.3'), true)
  assert.equal(mayConnect('10.0.0.0/8', 'https://10.9.9.9/', '10.9.9.9'), true)
  assert.equal(mayConnect('[fd00::/8]:8443', 'https://[fd00::1]:8443/', 'fd00::1'), true)
  assert.equal(mayCall('10.0.0.0/8', 'https://inner.test/'), false)
  assert.equal(mayCall('10.0.0.0/8', 'https://[::ffff:10.0.0.1]/'), false)
})

test('one entry does not lend its addresses to another', () => {
  const entries = parseAllow(['api.example.com', 'http://inner.test=10.0.0.0/8'])
  const permits = permitFor(new URL('https://api.example.com/'), entries)
  assert.equal(permits?.('10.0.0.1'), false)
})

test('an entry that cannot be understood stops the pod with the entry and the reason', () => {
  const wrong = [
    ...words(`
      https:// https://api.example.com/path user@api.example.com ftp://api.example.com fd00::1 api.*.com
      *x.com 0x7f.1 2130706433 api.example.com:0 api.example.com:70000 api.example.com=private
      api.example.com=10.0.0.0/40 10.0.0.1=10.0.0.0/8 *.10.0.0.1 a?b a%41
    `),
    '',
    'a b',
  ]
  for (const entry of wrong)
    assert.throws(
      () => parseAllow([entry]),
      (error) =>
        error instanceof FleetError &&
        error.code === 'config_invalid' &&
        error.message.includes(`"${entry}"`),
      entry,
    )
})

/** The words of a text, without the lines that begin with #. */
function words(text: string): string[] {
  const lines = text.split('\n').filter((line) => !line.trim().startsWith('#'))
  return lines.join(' ').trim().split(/\s+/)
}
