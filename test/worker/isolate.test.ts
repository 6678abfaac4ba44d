import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Worker } from 'node:worker_threads'
import { stepContext } from '../../src/testing.ts'
import { NonRetryableError, Wish } from '../../src/step/handler.ts'
import type { ThreadMessage } from '../../src/worker/isolate.thread.ts'
import { threadPool, type ThreadPoolOptions } from '../../src/worker/isolate.ts'

const HANDLER_MODULE = JSON.stringify(new URL('../../src/step/handler.ts', import.meta.url).href)
const DEMO_PATH = fileURLToPath(new URL('../../src/worker/builtin/demo.ts', import.meta.url))

/** Steps as a user would write them. Each export is one behaviour. */
const STEPS = `
import { threadId } from 'node:worker_threads'
import { setTimeout as pause } from 'node:timers/promises'
import { cancel, defineStep, NonRetryableError, retry, snooze } from ${HANDLER_MODULE}
const step = (type, run) => defineStep(type, { isolation: 'thread' }, run)
const forEver = () => new Promise((done) => setTimeout(done, 1e8))

export const echo = step('echo', (args, { signal, log, progress, tx, ...context }) => ({ args, context, threadId }))
export const talk = step('talk', async (args, ctx) => {
  ctx.progress(10, 'begun')
  ctx.log.info('hello', { a: 1, f: () => 1 })
  ctx.log.error('oh', 7n)
  ctx.progress(20)
  ctx.progress(100, 'done')
})
export const chatter = step('chatter', (args, ctx) => { for (let i = 0; i < 5000; i++) ctx.log.info('line ' + i) })
export const plain = step('plain', () => ({ at: new Date(0), f: () => 1, u: undefined, nested: [new Map()] }))
export const nothing = step('nothing', () => undefined)
export const circle = step('circle', () => { const a = {}; a.a = a; return a })
export const big = step('big', () => 'x'.repeat(2 * 1024 * 1024))
export const again = step('again', () => retry(1500, 'later'))
export const nap = step('nap', () => snooze(60_000))
export const none = step('none', () => cancel('nothing to do'))
export const broken = step('broken', () => { throw Object.assign(new RangeError('too far'), { code: 'E_FAR', at: {} }) })
export const final = step('final', () => { throw new NonRetryableError('never') })
export const named = step('named', () => { throw new class extends NonRetryableError { name = 'CardDeclined' }('no money') })
export const string = step('string', () => { throw 'just text' })
export const transaction = step('transaction', (args, ctx) => ctx.tx())
export const exits = step('exits', () => process.exit(3))
export const bursts = step('bursts', () => { setImmediate(() => { throw new TypeError('from a timer') }); return forEver() })
export const spins = step('spins', () => { for (;;); })
export const grows = step('grows', () => { const all = []; for (;;) all.push(Array.from({ length: 1000 }, (_, i) => ({ i }))) })
export const obeys = step('obeys', (args, ctx) => new Promise((done, failed) => {
  ctx.log.info('ready')
  ctx.signal.addEventListener('abort', () => args.finish ? done('finished') : failed(ctx.signal.reason))
}))
export const ignores = step('ignores', (args, ctx) => { ctx.log.info('ready'); return forEver() })
export const haunts = step('haunts', (args, ctx) => { setInterval(() => ctx.log.info('ghost'), 1) })
export const listens = step('listens', async (args, ctx) => { ctx.log.info('ready'); await pause(20); return threadId })
export const noStep = 7
`

test('a handler runs in a thread with its arguments and its context, and its result comes back', async (t) => {
  const { run, context } = setup(t)
  const result = await run('echo', { a: [1, { b: null }] })
  const { stepId, type, attempt, maxRetries, metadata, tags, idempotencyKey } = context
  assert.deepEqual(result, {
    args: { a: [1, { b: null }] },
    context: { stepId, type, attempt, maxRetries, metadata, tags, idempotencyKey },
    threadId: threadOf(result),
  })
  assert.ok(threadOf(result) > 0)
})

test('a result is plain data, as it would be stored', async (t) => {
  const { run } = setup(t)
  assert.deepEqual(await run('plain'), { at: '1970-01-01T00:00:00.000Z', nested: [{}] })
  assert.equal(await run('nothing'), undefined)
})

test('a result that cannot be stored ends the step and does not travel', async (t) => {
  const { run } = setup(t)
  await assert.rejects(
    run('circle'),
    (error) => error instanceof NonRetryableError && /JSON/.test(error.message),
  )
  await assert.rejects(
    run('big'),
    (error) => error instanceof NonRetryableError && /2097154/.test(error.message),
  )
})

test('log lines and progress reach the pod in order, the last progress at the latest', async (t) => {
  const { run, messages } = setup(t)
  await run('talk')
  assert.deepEqual(messages, [
    { kind: 'progress', percent: 10, message: 'begun' },
    { kind: 'log', level: 'info', message: 'hello', data: { a: 1 } },
    { kind: 'log', level: 'error', message: 'oh', data: '7' },
    { kind: 'progress', percent: 100, message: 'done' },
  ])
})

test('without a listener, what a handler says goes to its context', async (t) => {
  const said: unknown[] = []
  const log = { debug() {}, info: (...line: unknown[]) => said.push(line), warn() {}, error() {} }
  const { pool, job } = setup(t)
  const context = { ...job('talk').context, log, progress: (...note: unknown[]) => said.push(note) }
  await pool.runInThread({ ...job('talk'), context }, new AbortController().signal)
  assert.deepEqual(said, [
    [10, 'begun'],
    ['hello', { a: 1 }],
    [100, 'done'],
  ])
})

test('a handler that talks without end does not fill the mailbox of the pod', async (t) => {
  const { run, messages } = setup(t)
  await run('chatter')
  assert.equal(messages.length, 2000)
})

test('wishes come back as wishes', async (t) => {
  const { run } = setup(t)
  assert.deepEqual(await run('again'), new Wish('retry', 1500, 'later'))
  assert.deepEqual(await run('nap'), new Wish('snooze', 60_000))
  assert.deepEqual(await run('none'), new Wish('cancel', undefined, 'nothing to do'))
  assert.ok((await run('none')) instanceof Wish)
})

test('errors come back with name, words, stack and code, and keep whether another attempt may help', async (t) => {
  const { run } = setup(t)
  await assert.rejects(run('broken'), (error) => {
    assert.ok(error instanceof Error && !(error instanceof NonRetryableError) && 'code' in error)
    assert.deepEqual([error.name, error.message, error.code], ['RangeError', 'too far', 'E_FAR'])
    assert.match(error.stack ?? '', /RangeError: too far\n.*steps\.mjs/)
    return true
  })
  await assert.rejects(
    run('final'),
    (error) => error instanceof NonRetryableError && error.message === 'never',
  )
  await assert.rejects(
    run('named'),
    (error) => error instanceof NonRetryableError && error.name === 'CardDeclined',
  )
  await assert.rejects(run('string'), (error) => error instanceof Error && error.message === 'just text')
})

test('a transaction is refused with the reason', async (t) => {
  const { run } = setup(t)
  await assert.rejects(run('transaction'), /ctx\.tx\(\) is not available in a thread/)
})

test('arguments that are not plain data are refused with advice, and the thread lives on', async (t) => {
  const { run } = setup(t, { threadsMax: 1 })
  const first = threadOf(await run('echo'))
  await assert.rejects(
    run('echo', { f: () => 1 }),
    (error) => error instanceof NonRetryableError && /not plain data/.test(error.message),
  )
  assert.equal(threadOf(await run('echo')), first)
})

test('process.exit ends the thread and fails the attempt; the pod and the next attempt go on', async (t) => {
  const { run } = setup(t, { threadsMax: 1 })
  await assert.rejects(run('exits'), /ended its thread \(process\.exit, code 3\)/)
  assert.ok(threadOf(await run('echo')) > 0)
})

test('an error in a timer fails the attempt that runs, not the pod', async (t) => {
  const { run } = setup(t, { threadsMax: 1 })
  await assert.rejects(run('bursts'), { name: 'TypeError', message: 'from a timer' })
  assert.ok(threadOf(await run('echo')) > 0)
})

test('a handler that needs too much memory fails its attempt, not the pod', async (t) => {
  const { run } = setup(t, { threadsMax: 1, memoryMb: 32 })
  await assert.rejects(run('grows'), /needed more than the 32 MB of memory/)
  assert.ok(threadOf(await run('echo')) > 0)
})

test('an abort reaches the handler with its reason, and the thread is used again', async (t) => {
  const { run, job, pool } = setup(t, { threadsMax: 1 })
  const first = threadOf(await run('echo'))
  for (const finish of [false, true]) {
    const stop = new AbortController()
    const reason = Object.assign(new Error('cancelled by ann'), { why: 'cancelled' })
    const ended = pool.runInThread({ ...job('obeys'), args: { finish } }, stop.signal, () =>
      stop.abort(reason),
    )
    if (finish) assert.equal(await ended, 'finished')
    else await assert.rejects(ended, { message: 'cancelled by ann', why: 'cancelled' })
  }
  assert.equal(threadOf(await run('echo')), first)
})

test('a handler that does not end after an abort is ended with its thread', async (t) => {
  const { job, pool, run } = setup(t, { threadsMax: 1, graceMs: 50 })
  const first = threadOf(await run('echo'))
  const stop = new AbortController()
  const reason = new Error('the pod shuts down')
  await assert.rejects(
    pool.runInThread(job('ignores'), stop.signal, () => stop.abort(reason)),
    reason,
  )
  assert.notEqual(threadOf(await run('echo')), first)
})

test('an endless loop is ended, too', async (t) => {
  const { job, pool, run } = setup(t, { threadsMax: 1, graceMs: 50 })
  const stop = new AbortController()
  const reason = new Error('time limit')
  const ended = pool.runInThread(job('spins'), stop.signal)
  stop.abort(reason)
  await assert.rejects(ended, reason)
  assert.ok(threadOf(await run('echo')) > 0)
})

test('who waits for a thread gets the next one that is free, or leaves with an abort', async (t) => {
  const { job, pool, run } = setup(t, { threadsMax: 1 })
  const [busy, stop] = [new AbortController(), new AbortController()]
  const reason = new Error('cancelled')
  const handler = new EventEmitter()
  const isReady = once(handler, 'ready')
  const first = pool.runInThread({ ...job('obeys'), args: { finish: true } }, busy.signal, () =>
    handler.emit('ready'),
  )
  const left = pool.runInThread(job('echo'), stop.signal)
  const second = run('echo')
  stop.abort(reason)
  await assert.rejects(left, reason)
  await isReady
  busy.abort(reason)
  assert.equal(await first, 'finished')
  assert.ok(threadOf(await second) > 0)
  await assert.rejects(pool.runInThread(job('echo'), stop.signal), reason)
})

test('what a handler left behind in its thread is not heard under the name of the next', async (t) => {
  const { run, messages } = setup(t, { threadsMax: 1 })
  await run('haunts')
  messages.length = 0
  await run('listens')
  assert.deepEqual(messages, [{ kind: 'log', level: 'info', message: 'ready' }])
})

test('an idle thread is ended, and a new one is started when there is work', async (t) => {
  const { run } = setup(t, { threadsMax: 1, idleMs: 0 })
  // Idle threads and their timers let a process end; this one is to wait.
  const wait = setInterval(() => undefined, 1000)
  t.after(() => clearInterval(wait))
  const exited = once(process, 'worker').then(([worker]: Worker[]) => worker && once(worker, 'exit'))
  const first = threadOf(await run('echo'))
  await exited
  assert.notEqual(threadOf(await run('echo')), first)
})

test('a module or an export that is not there is said so', async (t) => {
  const { pool, job, run } = setup(t)
  await assert.rejects(run('noStep'), /exports no step as noStep/)
  await assert.rejects(run('unknown'), /exports no step as unknown/)
  const gone = { ...job('echo'), modulePath: '/nonexistent/steps.mjs' }
  await assert.rejects(pool.runInThread(gone, new AbortController().signal), { code: 'ERR_MODULE_NOT_FOUND' })
})

test('stopping ends all threads, fails what runs and refuses what waits or comes', async (t) => {
  const { pool, run } = setup(t, { threadsMax: 1 })
  const outcomes = Promise.allSettled([run('spins'), run('echo')])
  await pool.stop()
  for (const outcome of await outcomes) {
    assert.equal(outcome.status, 'rejected')
    assert.match(String(outcome.reason), /the pod is stopping/)
  }
  await assert.rejects(run('echo'), /the pod is stopping/)
})

test('count_primes, the step of ours that asks for a thread, runs in one', async (t) => {
  const { pool, job } = setup(t)
  const notes: ThreadMessage[] = []
  const counting = { ...job('countPrimes'), modulePath: DEMO_PATH, args: { up_to: 3_000_000 } }
  const result = await pool.runInThread(counting, new AbortController().signal, (note) => notes.push(note))
  assert.deepEqual(result, { up_to: 3_000_000, primes: 216_816 })
  assert.equal(notes.at(-1)?.kind, 'progress')
})

function setup(t: TestContext, options: ThreadPoolOptions = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-q-thread-'))
  const modulePath = join(folder, 'steps.mjs')
  writeFileSync(modulePath, STEPS)
  const pool = threadPool(options)
  t.after(async () => {
    await pool.stop()
    rmSync(folder, { recursive: true })
  })
  const context = stepContext('any', {
    stepId: 'step_1',
    attempt: 2,
    metadata: { team: 'shop' },
    tags: ['a'],
    idempotencyKey: 'key-of-step',
  })
  const messages: ThreadMessage[] = []
  const job = (exportName: string) => ({ modulePath, exportName, args: {}, context })
  const run = (exportName: string, args: unknown = {}) =>
    pool.runInThread({ ...job(exportName), args }, context.signal, (message) => messages.push(message))
  return { pool, context, messages, job, run }
}

function threadOf(result: unknown): number {
  assert.ok(typeof result === 'object' && result !== null && 'threadId' in result)
  return Number(result.threadId)
}
