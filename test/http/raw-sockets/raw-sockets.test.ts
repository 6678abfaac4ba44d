import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, test } from 'node:test'
import { serveHttp } from '../../../src/http/listen.ts'
import { openDoor } from '../door.ts'
import { bodies, ends, fine, others } from './bodies.ts'
import type { Entry } from './entry.ts'
import { framing } from './framing.ts'
import { heads, hosts, lines } from './heads.ts'

const CORPUS: Entry[] = [framing, heads, hosts, lines, others, bodies, ends, fine].flat()

const { app, seen } = openDoor()
const door = await serveHttp(app, { host: '127.0.0.1', port: 0 })
after(() => door.close({ graceMs: 0 }))

const PROBE = 'GET /idempotency/probe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'

/** All that comes until the server closes the connection. */
function talk({ bytes, outcome }: Entry): Promise<string> {
  return new Promise((resolve) => {
    let text = ''
    let probed = false
    const socket = connect({ port: door.port, host: '127.0.0.1', allowHalfOpen: true }, () => {
      socket.write(Buffer.from(bytes, 'latin1'))
      if (outcome === 'cut') socket.end()
    })
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1')
      // What comes on a kept connection comes before the answer to this.
      if (typeof outcome === 'object' && !probed) {
        probed = true
        socket.write(PROBE)
      }
    })
    socket.on('end', () => socket.end())
    // Who is refused in the middle of his sending may be reset before he has read it all.
    socket.on('error', () => {})
    socket.on('close', () => resolve(text))
  })
}

const statuses = (text: string) =>
  [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))

/** What has come of it, in the words of the corpus; undefined where it came as it must. */
async function breach(entry: Entry): Promise<string | undefined> {
  const { name, bytes, outcome } = entry
  seen.length = 0
  const text = await talk(entry)
  const got = statuses(text)
  const reached = seen.map((each) => each.name).filter((each) => each !== 'getIdempotencyKey')
  const say = (what: string) =>
    `${name}: ${what}; ${got.length === 0 ? 'no answer' : got.join(', ')}; handlers: ${reached.join(', ') || 'none'}; ${JSON.stringify(bytes.slice(0, 200))}`
  if (JSON.stringify(seen).includes('smuggled')) return say('what was hidden reached a handler')
  if (reached.length > 1) return say('more than one handler')
  if (/^x-evil:/im.test(text)) return say('a header was injected')
  const expected =
    outcome === 'closed'
      ? []
      : outcome === 'cut'
        ? got.filter((status) => status === 400)
        : typeof outcome === 'object'
          ? [outcome.kept, 200]
          : [outcome]
  if (got.join() !== expected.join() || got.length > 2)
    return say(`expected ${expected.join(', ') || 'no answer'}`)
  if (typeof outcome === 'number' && !/^connection: close\r$/im.test(text))
    return say('closed without a word')
  const [first] = got
  if (first !== undefined && first >= 400 && reached.length > 0)
    return say('refused, and a handler was reached')
  return undefined
}

test('the corpus is as large as it was, and no two entries have one name', () => {
  assert.ok(CORPUS.length >= 235, String(CORPUS.length))
  assert.equal(new Set(CORPUS.map(({ name }) => name)).size, CORPUS.length)
})

test('each malformed request has one outcome, nothing hides in it, and the next connection is served', async () => {
  const breaches: string[] = []
  for (const entry of CORPUS) {
    const found = await breach(entry)
    if (found !== undefined) breaches.push(found)
    const next = await fetch(`http://127.0.0.1:${door.port}/health`)
    await next.text()
    if (next.status !== 200) breaches.push(`${entry.name}: the next request was answered ${next.status}`)
  }
  assert.deepEqual(breaches, [])
})
