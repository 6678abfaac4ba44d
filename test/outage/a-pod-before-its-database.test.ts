import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { allSettled, lifeOf } from '../recovery/fleet.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { submit } from '../support/http.ts'
import { FAST } from '../support/processes.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'

/** A pod that starts before its database does waits for it, for ten seconds. */

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const HANDLERS = fileURLToPath(new URL('../support/handlers', import.meta.url))
const PATIENCE_MS = 10_000

const { url, sql } = await testDatabase()

/** Not of processes.ts: that gives back pods that are up. */
function startProcess(databaseUrl: string) {
  const child = spawn(process.execPath, ['--import', 'tsx', MAIN], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      DATABASE_URL: databaseUrl,
      FLEET_Q_API_PORT: '0',
      FLEET_Q_HANDLERS: HANDLERS,
      FLEET_Q_LOG_FORMAT: 'json',
      ...FAST,
    },
  })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve))
  atEnd(async () => {
    child.kill('SIGKILL')
    await exited
  })
  const lines = (words: string) => out.split('\n').filter((line) => line.includes(words))
  return { lines, out: () => out, err: () => err, exited, isRunning: () => child.exitCode === null }
}

test('a pod that starts three seconds before its database waits for it, and works as soon as it is there', async () => {
  const proxy = await startProxy(url)
  await proxy.refuse()
  const pod = startProcess(proxy.url)
  const waits = () => pod.lines('waiting for the database').length
  await until('the pod to wait', () => waits() > 0)
  const begun = performance.now()
  await until('three seconds to pass', () => performance.now() - begun > 3000)
  assert.ok(pod.isRunning() && waits() > 1, pod.out() + pod.err())

  proxy.pass()
  const [up] = await until('the pod to be up', () => {
    assert.ok(pod.isRunning(), pod.out() + pod.err())
    const found = pod.lines('this pod is up')
    return found.length > 0 && found
  })
  const { port } = JSON.parse(up ?? '') as { port: number }
  const id = await submit(`http://127.0.0.1:${port}`, { type: 'polite' })
  await allSettled(sql)
  assert.equal((await lifeOf(sql, id)).status, 'completed')
  assert.equal(pod.err(), '')
})

/** One sentence, perhaps with the reason below it, and nothing that only its maker can read. */
function assertSaysSo(said: string) {
  assert.match(said, /^fleet-q: [^\n]*\bdatabase\b[^\n]*\.\n(  [^\n]+\n)?$/)
  assert.doesNotMatch(said, /\bat .*:\d+:\d+|node_modules|\.ts\b/)
}

for (const [what, silence] of [
  ['refuses every connection', (proxy) => proxy.refuse()],
  ['accepts connections and says nothing', (proxy) => Promise.resolve(proxy.blackhole())],
] as [string, (proxy: Awaited<ReturnType<typeof startProxy>>) => Promise<void>][])
  test(`a pod whose database ${what} says so in a sentence and ends with a code that is not 0`, async () => {
    const proxy = await startProxy(url)
    await silence(proxy)
    const begun = performance.now()
    const pod = startProcess(proxy.url)
    const code = await pod.exited
    const tookMs = performance.now() - begun
    assert.equal(code, 1, pod.out() + pod.err())
    assertSaysSo(pod.err())
    assert.deepEqual(pod.lines('this pod is up'), [])
    for (const line of pod.out().split('\n')) assert.doesNotMatch(line, /"stack"/)
    assert.ok(tookMs > PATIENCE_MS / 2 && tookMs < PATIENCE_MS * 2.5, `it ended after ${tookMs} ms`)
  })
