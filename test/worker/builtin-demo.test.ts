import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isStepDefinition, NonRetryableError, type StepContext } from '../../src/step/handler.ts'
import { demoSteps } from '../../src/worker/builtin/demo.ts'
import { stepContext } from '../../src/testing.ts'

test('every demonstration type says in one line what it does, and lies where a thread finds it', async () => {
  const types = demoSteps.map(({ definition }) => definition.type)
  assert.deepEqual(types, [
    'hello_world',
    'sleep',
    'flaky',
    'fail',
    'count_primes',
    'data_processing',
    'email_notification',
  ])
  for (const { definition, modulePath, exportName } of demoSteps) {
    assert.match(definition.input?.description ?? '', /^[A-Z][^\n]{10,100}$/, definition.type)
    const exported: unknown = await import(modulePath)
    assert.equal(Object.entries(Object(exported)).find(([name]) => name === exportName)?.[1], definition)
    assert.ok(isStepDefinition(definition))
  }
})

test('every demonstration type takes no arguments, so that it can be tried with one word', () => {
  for (const { definition } of demoSteps)
    assert.equal(definition.input?.safeParse({}).success, true, definition.type)
})

test('hello_world greets by name or says what it was told to', async () => {
  assert.deepEqual(await run('hello_world', { name: 'Ann' }), { greeting: 'Hello, Ann!' })
  assert.deepEqual(await run('hello_world', { message: 'Hello, FLEET-Q!' }), { greeting: 'Hello, FLEET-Q!' })
  assert.deepEqual(await run('hello_world'), { greeting: 'Hello, world!' })
})

test('flaky fails on its first attempts and then succeeds', async () => {
  for (const attempt of [1, 2])
    await assert.rejects(
      run('flaky', { fail_times: 2 }, { attempt }),
      (error) => !(error instanceof NonRetryableError),
    )
  assert.deepEqual(await run('flaky', { fail_times: 2 }, { attempt: 3 }), { attempts: 3 })
})

test('fail fails, for good if it is told to', async () => {
  await assert.rejects(run('fail', { message: 'no' }), (error) => !(error instanceof NonRetryableError))
  await assert.rejects(run('fail', { retryable: false }), NonRetryableError)
})

test('sleep shows its progress, and an abort ends it with the reason', async () => {
  const percents: number[] = []
  const result = await run('sleep', { seconds: 0.01 }, { progress: (percent) => percents.push(percent) })
  assert.deepEqual(result, { slept_seconds: 0.01 })
  assert.deepEqual([percents[0], percents.at(-1)], [0, 100])
  const stop = new AbortController()
  const reason = new Error('cancelled')
  const ended = run('sleep', { seconds: 3600 }, { signal: stop.signal })
  stop.abort(reason)
  await assert.rejects(ended, reason)
})

test('count_primes counts primes, across the segments of its sieve, and stops when it is told to', async () => {
  const known = [
    [0, 0],
    [1, 0],
    [2, 1],
    [100, 25],
    [1_000_000, 78_498],
    [2_200_000, 162_662],
  ] as const
  for (const [up_to, primes] of known)
    assert.deepEqual(await run('count_primes', { up_to }), { up_to, primes })
  const stop = new AbortController()
  const reason = new Error('cancelled')
  const progress = () => stop.abort(reason)
  await assert.rejects(
    run('count_primes', { up_to: 1_000_000_000 }, { signal: stop.signal, progress }),
    reason,
  )
})

test('data_processing and email_notification take what the examples send and report something', async () => {
  const percents: number[] = []
  const report = await run(
    'data_processing',
    { input_file: 'data.csv', output_format: 'json', anything: { else: true } },
    { progress: (percent) => percents.push(percent) },
  )
  assert.ok(typeof report === 'object' && report !== null && 'rows' in report && Number(report.rows) > 0)
  assert.ok(percents.length > 5)
  assert.deepEqual(await run('email_notification', { to: 'a@example.com', priority: 'high' }), {
    sent: false,
    to: 'a@example.com',
    message_id: 'demo-key-of-step',
  })
})

async function run(type: string, args: unknown = {}, known: Partial<StepContext> = {}): Promise<unknown> {
  const found = demoSteps.find(({ definition }) => definition.type === type)
  assert.ok(found)
  const ctx = stepContext(type, { idempotencyKey: 'key-of-step', ...known })
  return await found.definition.run(found.definition.input?.parse(args), ctx)
}
