import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { cancel, NonRetryableError, retry, snooze } from '../../src/step/handler.ts'
import type { ClaimedStep } from '../../src/step/claim.sql.ts'
import { json } from '../../src/step/describe.ts'
import { reportOf, RESULT_BYTES_MAX, type Ending } from '../../src/worker/outcome.ts'

const step = (over: Partial<ClaimedStep> = {}): ClaimedStep => ({
  kind: 'claimed',
  claim_id: '7',
  step_id: '42',
  attempt: 1,
  lane_id: 1,
  position: '1',
  salt: '1',
  created_at: '1970-01-01 00:00:00+00',
  type: 'any',
  priority: 0,
  args: {},
  metadata: null,
  max_retries: 3,
  timeout_ms: null,
  retry: { jitter: 0, base_ms: 100 },
  tags: null,
  expired: false,
  fresh: true,
  has_parent: null,
  ...over,
})
const report = (ending: Ending, over: Partial<ClaimedStep> = {}) =>
  reportOf(step(over), undefined, ending, 5, 0)

test('what a handler returns is the result, undefined is null', () => {
  assert.deepEqual(
    [
      report({ kind: 'returned', value: { a: 1 } }).result,
      report({ kind: 'returned', value: undefined }).result,
    ],
    ['{"a":1}', null],
  )
  assert.equal(report({ kind: 'returned', value: 1 }).outcome, 'completed')
})

test('whatever happens, a step has no more than max_retries + 1 attempts', () => {
  const endings = fc.oneof(
    fc.constant<Ending>({ kind: 'threw', error: new Error('x') }),
    fc.constant<Ending>({ kind: 'timeout', limitMs: 1 }),
    fc.constant<Ending>({ kind: 'returned', value: retry(0) }),
  )
  fc.assert(
    fc.property(
      endings,
      fc.integer({ min: 0, max: 10 }),
      fc.integer({ min: 1, max: 20 }),
      (ending, max_retries, attempt) => {
        const { outcome, nextAttempt } = report(ending, { max_retries, attempt })
        assert.equal(outcome === 'failed', attempt > max_retries)
        assert.equal(nextAttempt, attempt > max_retries ? null : attempt + 1)
      },
    ),
  )
})

test('snooze and release come back as the same attempt; an error that says so is not retried', () => {
  const snoozed = report({ kind: 'returned', value: snooze(5000, 'too early') })
  assert.deepEqual(
    [snoozed.ended, snoozed.delayMs, snoozed.nextAttempt, snoozed.outcome],
    ['snoozed', 5000, 1, null],
  )
  const released = report({ kind: 'released', why: 'shutdown' }, { attempt: 4 })
  assert.deepEqual([released.ended, released.nextAttempt, released.outcome], ['released', 4, null])
  assert.equal(report({ kind: 'threw', error: new NonRetryableError('never') }).outcome, 'failed')
  assert.equal(report({ kind: 'returned', value: cancel('nothing to do') }).outcome, 'cancelled')
  assert.equal(report({ kind: 'expired' }).outcome, 'skipped')
})

test('an error that extends NonRetryableError is final under its own name, from whichever copy of the library', () => {
  class CardDeclined extends NonRetryableError {
    override readonly name = 'CardDeclined'
  }
  const copy = { NonRetryableError: class NonRetryableError extends Error {} }
  class Elsewhere extends copy.NonRetryableError {
    override readonly name = 'Elsewhere'
  }
  for (const error of [new CardDeclined('no money'), new Elsewhere('no')]) {
    const { outcome, error: told } = report({ kind: 'threw', error })
    assert.equal(outcome, 'failed')
    assert.equal((JSON.parse(told ?? '{}') as { class: string }).class, error.name)
  }
})

test('the wait is the step’s own policy, unless the handler names one', () => {
  assert.equal(report({ kind: 'threw', error: new Error('x') }, { attempt: 3 }).delayMs, 400)
  assert.equal(report({ kind: 'returned', value: retry(7) }).delayMs, 7)
})

test('a result that is no JSON or too large fails the step with a clear error, and is not tried again', () => {
  const loop: Record<string, unknown> = {}
  loop['self'] = loop
  for (const value of [loop, 1n, 'x'.repeat(RESULT_BYTES_MAX + 1)]) {
    const { outcome, error } = report({ kind: 'returned', value })
    assert.equal(outcome, 'failed')
    assert.ok(error)
  }
})

test('NUL and halves of surrogate pairs, which jsonb refuses, never reach the database', () => {
  fc.assert(
    fc.property(fc.jsonValue({ stringUnit: 'binary' }), (value) => {
      const text = json(value) ?? ''
      assert.doesNotMatch(text, /(^|[^\\])(\\\\)*\\u0000/)
      assert.doesNotMatch(text, /(^|[^\\])(\\\\)*\\ud[89a-f]/i)
    }),
  )
  assert.equal(
    json({ 'a\0': ['b\uD800', new Date(0)] }),
    '{"a\uFFFD":["b\uFFFD","1970-01-01T00:00:00.000Z"]}',
  )
})
