import assert from 'node:assert/strict'
import { test } from 'node:test'
import { issuesOf } from '../../src/http/issues.ts'
import { SubmitBatch, SubmitStep } from '../../src/step/step.schema.ts'
import { accepted, openDoor, refusal, said } from './door.ts'

const STEP = { type: 'data_processing', args: { input_file: 'data.csv' } }

test('the step of the seed is taken as it stands, and gets its defaults', async () => {
  const seed = {
    type: 'data_processing',
    args: { input_file: 'data.csv', output_format: 'json' },
    metadata: { user: 'alice', department: 'analytics' },
    priority: 5,
    max_retries: 3,
  }
  assert.deepEqual(await accepted(seed), seed)
  assert.deepEqual(await accepted(STEP), { ...STEP, metadata: {}, priority: 0, max_retries: 3 })
})

test('everything that a step may carry is handed on, in one form', async () => {
  assert.deepEqual(
    await accepted({
      ...STEP,
      priority: 'high',
      delay_seconds: 1.5,
      timeout_seconds: 0.1,
      retry: { strategy: 'linear', base_ms: 10 },
      key: 'customer 7',
      unique: 'invoice 12',
      expires_at: '2030-01-01T00:00:00+02:00',
      tags: ['nightly'],
      idempotency_key: 'k',
    }),
    {
      ...STEP,
      metadata: {},
      priority: 10,
      max_retries: 3,
      delay_seconds: 1.5,
      timeout_seconds: 0.1,
      retry: { strategy: 'linear', base_ms: 10 },
      key: 'customer 7',
      unique: { key: 'invoice 12', on_conflict: 'reject' },
      expires_at: '2029-12-31T22:00:00.000Z',
      tags: ['nightly'],
      idempotency_key: 'k',
    },
  )
})

test('priority words are numbers; nothing else is coerced', async () => {
  for (const [word, number] of Object.entries({ low: -10, normal: 0, medium: 0, high: 10, immediate: 100 })) {
    const body = await accepted({ ...STEP, priority: word })
    assert.deepEqual(body, { ...STEP, metadata: {}, priority: number, max_retries: 3 })
  }
  const must =
    '400 priority: must be an integer from -1000 to 1000 or one of low, normal, medium, high, immediate'
  for (const priority of [1.5, '1', 'urgent', null, true, [1]])
    assert.equal(await refusal('/submit', { ...STEP, priority }), must)
  assert.equal(await refusal('/submit', { ...STEP, priority: 2 ** 31 }), '400 priority: must be at most 1000')
  assert.equal(await refusal('/submit', { ...STEP, priority: -1001 }), '400 priority: must be at least -1000')
  assert.match(
    await refusal('/submit', '{"type":"a","args":{},"priority":NaN}'),
    /^400 priority: line 1, column 34: expected a value/,
  )
})

test('every field says what it must be', async () => {
  const cases: [Record<string, unknown>, string][] = [
    [{ type: '' }, 'type: must not be empty'],
    [{ type: 7 }, 'type: must be a string, not an integer'],
    [{ type: 'x'.repeat(201) }, 'type: must have at most 200 characters'],
    [{ type: "a'; DROP TABLE fleet_q.steps; --" }, 'type: must be letters, digits and _ . : / - only'],
    [{ type: '-a' }, 'type: must be letters, digits'],
    [{ type: 'a\n' }, 'type: must be letters, digits'],
    [{ args: undefined }, 'args: must be an object'],
    [{ args: [] }, 'args: must be an object'],
    [{ args: 'text' }, 'args: must be an object'],
    [{ metadata: null }, 'metadata: must be an object'],
    [{ max_retries: -1 }, 'max_retries: must be at least 0'],
    [{ max_retries: 1001 }, 'max_retries: must be at most 1000'],
    [{ max_retries: '3' }, 'max_retries: must be a number, not a string'],
    [{ max_retries: 1.5 }, 'max_retries: must be an integer, not 1.5'],
    [{ delay_seconds: -1 }, 'delay_seconds: must be at least 0'],
    [{ delay_seconds: 315_360_001 }, 'delay_seconds: must be at most 315360000'],
    [{ timeout_seconds: 0 }, 'timeout_seconds: must be at least 0.1'],
    [{ timeout_seconds: 604_801 }, 'timeout_seconds: must be at most 604800'],
    [{ run_at: 'tomorrow' }, 'run_at: must be a time with an offset'],
    [{ run_at: '2026-11-20T08:30:00' }, 'run_at: must be a time with an offset'],
    [{ run_at: '2026-02-30T08:30:00Z' }, 'run_at: must be a time with an offset'],
    [{ run_at: '0000-01-01T00:00:00Z' }, 'run_at: must lie between 1970 and 9999'],
    [{ run_at: '9999-12-31T23:59:59-01:00' }, 'run_at: must lie between 1970 and 9999'],
    [{ run_at: 1_700_000_000 }, 'run_at: must be a time with an offset'],
    [{ run_at: '2030-01-01T00:00:00Z', delay_seconds: 5 }, 'delay_seconds: cannot stand beside run_at'],
    [
      { run_at: '2030-01-01T00:00:00Z', expires_at: '2030-01-01T00:30:00+01:00' },
      'expires_at: must be after run_at',
    ],
    [{ retry: { strategy: 'random' } }, 'retry.strategy: must be one of exponential, linear, fixed'],
    [{ retry: { jitter: 1.1 } }, 'retry.jitter: must be at most 1'],
    [{ retry: { bas_ms: 5 } }, 'retry.bas_ms: is not a field of this request. Did you mean base_ms?'],
    [{ key: '' }, 'key: must not be empty'],
    [{ unique: 7 }, 'unique: '],
    [
      { unique: { key: 'a', on_conflict: 'wait' } },
      'unique.on_conflict: must be one of reject, return, replace',
    ],
    [{ unique: { on_conflict: 'return' } }, 'unique.key: is missing'],
    [{ tags: Array(21).fill('a') }, 'tags: must hold at most 20'],
    [{ tags: ['ok', ''] }, 'tags.1: must not be empty'],
    [{ idempotency_key: 'k'.repeat(256) }, 'idempotency_key: must have at most 255 characters'],
    [{ priorty: 1 }, 'priorty: is not a field of this request. Did you mean priority?'],
    [{ steps: [] }, 'steps: is not a field of this request.'],
    [{ constructor: 1 }, 'constructor: is not a field of this request.'],
  ]
  for (const [change, expected] of cases) {
    const answer = await refusal('/submit', { ...STEP, ...change })
    assert.ok(answer.startsWith(`400 ${expected}`), `${JSON.stringify(change)}: ${answer}`)
  }
})

test('several things that are wrong are told at once, and at most fifty', async () => {
  assert.equal(
    await refusal('/submit', { typ: 'a', args: 1 }),
    '400 type: is missing; args: must be an object; typ: is not a field of this request. Did you mean type?',
  )
  const { send } = openDoor()
  const { issues = [] } = await said(
    await send('/submit/batch', { steps: Array.from({ length: 1000 }, () => ({})) }),
  )
  assert.equal(issues.length, 51)
  assert.deepEqual(issues.at(-1), { at: '', message: 'and 1950 more' })
})

test('words are found for the fifty that are told, however many are wrong', () => {
  const strange = Object.fromEntries(Array.from({ length: 90_000 }, (_, i) => [`k${i}`, 0]))
  for (const wrong of [
    strange,
    { ...STEP, retry: strange },
    { steps: Array.from({ length: 1000 }, () => ({ a: 1, b: 2 })) },
  ]) {
    const schema = 'steps' in wrong ? SubmitBatch : SubmitStep
    const found = issuesOf(schema, schema.safeParse(wrong).error?.issues ?? [])
    assert.ok(found.length > 1000, 'all are counted')
    assert.equal(new Set(found).size, 51)
  }
})

test('a batch is 1 to 1000 steps, and names the one that is wrong', async () => {
  assert.equal(await refusal('/submit/batch', { steps: [] }), '400 steps: must hold at least 1')
  assert.equal(
    await refusal('/submit/batch', { steps: Array.from({ length: 1001 }, () => STEP) }),
    '400 steps: must hold at most 1000',
  )
  assert.equal(
    await refusal('/submit/batch', { steps: [STEP, { ...STEP, priorty: 1 }] }),
    '400 steps.1.priorty: is not a field of this request. Did you mean priority?',
  )
  const { send } = openDoor()
  const response = await send('/submit/batch', { steps: [STEP, STEP] })
  assert.equal(response.status, 201)
})
