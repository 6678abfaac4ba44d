import assert from 'node:assert/strict'
import { setTimeout as rest } from 'node:timers/promises'
import { test } from 'node:test'
import { ChildFailed, EventTimeout, RunFailed } from '../../src/step/durable.ts'
import { defineStep, NonRetryableError, type StepContext } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { get, post } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'

/** Of a rejection that nobody has awaited yet Node ends the process: here, that of these tests. */

const db = await testDatabase()
const once = { backoff: { base_ms: 1 } }
const no = () => {
  throw new NonRetryableError('no')
}
const slowly = (ctx: StepContext) => ctx.run('slow', () => rest(400))
const orWhy = (asked: Promise<unknown>, kind: new (...args: never[]) => Error) =>
  asked.catch((error: unknown) => {
    if (error instanceof kind) return error.constructor.name
    throw error
  })

const pod = await startTestPod(db.url, [
  defineStep('fails', once, no),
  defineStep('naps', {}, () => rest(300)),
  defineStep('run', once, async (_, ctx) => {
    const quick = ctx.run('quick', no)
    await slowly(ctx)
    return orWhy(quick, RunFailed)
  }),
  defineStep('event', once, async (_, ctx) => {
    const gate = ctx.waitForEvent('gate', { timeout: 50 })
    await slowly(ctx)
    return orWhy(gate, EventTimeout)
  }),
  defineStep('child', once, async (_, ctx) => {
    const first = await ctx.submit('first', { type: 'naps' })
    const second = await ctx.submit('second', { type: 'fails' })
    const [one, two] = [first.result(), second.result()]
    await one
    return orWhy(two, ChildFailed)
  }),
  defineStep('ignores', once, async (_, ctx) => {
    void ctx.run('background', no)
    await ctx.sleep('nap', 400)
  }),
  defineStep('forgets', once, async (_, ctx) => {
    void ctx.run('background', () => rest(60_000, undefined, { ref: false }))
    return ctx.run('quick', () => 1)
  }),
  defineStep('races', once, (_, ctx) =>
    Promise.race([
      ctx.run('long', () => rest(60_000, undefined, { ref: false })),
      ctx.run('quick', () => 'quick'),
    ]),
  ),
  defineStep('nested', once, (_, ctx) => ctx.run('outer', () => ctx.waitForEvent('inner'))),
  defineStep('nested-undo', once, async (_, ctx) => {
    await ctx.onFailure('back', () => ctx.run('inner', () => 1), { retry: { max: 0 } })
    no()
  }),
  defineStep('beside', once, async (_, ctx) => {
    // Not inside of it: only at the same time.
    const outer = ctx.run('outer', () => rest(100).then(() => 'outer'))
    return [await ctx.run('beside', () => 'beside'), await outer]
  }),
  defineStep('soon', {}, (_, ctx) => ctx.sleep('nap', 'soon')),
  defineStep('for-ever', {}, (_, ctx) => ctx.sleep('nap', 1e20)),
  defineStep('some-day', {}, (_, ctx) => ctx.sleepUntil('nap', 'some day')),
])

async function run(type: string): Promise<Record<string, unknown> & { message: string }> {
  const { body } = await post(pod.url, '/api/v1/executions', { task_name: type, payload: {} })
  const end = (await get(pod.url, `/api/v1/executions/${String(body['execution_id'])}/wait`)).body
  const { message = '' } = (end['error'] ?? {}) as { message?: string }
  return { ...end, message }
}

test('what fails before it is awaited is told to whoever awaits it', async () => {
  for (const [type, result] of [
    ['run', 'RunFailed'],
    ['event', 'EventTimeout'],
    ['child', 'ChildFailed'],
  ] as const) {
    const end = await run(type)
    assert.deepEqual([end.status, end.result], ['completed', result], `${type}: ${end.message}`)
  }
})

test('what fails and is never awaited fails the attempt, and nothing else', async () => {
  const { status, message } = await run('ignores')
  assert.equal(status, 'failed')
  assert.match(message, /background.*no/)
})

test('what is under way when the handler returns, and is never awaited, fails it: somebody has forgotten a word', async () => {
  const { status, message } = await run('forgets')
  assert.equal(status, 'failed')
  assert.match(message, /returned before ctx\.run\("background"\) was done: nobody awaits it/)
  assert.deepEqual((await run('races')).result, 'quick')
})

test('a body that asks ctx for more is refused: nothing of it would be remembered by itself', async () => {
  const { status, message } = await run('nested')
  assert.equal(status, 'failed')
  assert.match(message, /ctx\.waitForEvent\("inner"\) is asked for inside of the body of ctx\.run\("outer"\)/)
  assert.match((await run('nested-undo')).message, /no/)
  assert.deepEqual((await run('beside')).result, ['beside', 'outer'])
})

test('a span that is none fails at once, in words: no retry would make it one', async () => {
  for (const [type, says] of [
    ['soon', /"soon" is no span of time/],
    ['for-ever', /100000000000000000000 is no span of time/],
    ['some-day', /some day is no time/],
  ] as const) {
    const { status, message, retry_number } = await run(type)
    assert.deepEqual([status, retry_number], ['failed', 0], message)
    assert.match(message, says)
  }
})
