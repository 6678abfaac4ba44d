import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { backoffMs, DEFAULT_BACKOFF, type Backoff } from '../../src/kernel/backoff.ts'

const policy = fc.record<Backoff>({
  strategy: fc.constantFrom('exponential', 'linear', 'fixed'),
  base_ms: fc.integer({ min: 0, max: 86_400_000 }),
  max_ms: fc.integer({ min: 0, max: 604_800_000 }),
  jitter: fc.double({ min: 0, max: 1, noNaN: true }),
})

test('a wait is never negative, never longer than max_ms, and finite for any attempt', () => {
  fc.assert(
    fc.property(
      policy,
      fc.integer({ min: 1, max: 1001 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (backoff, attempt, chance) => {
        const ms = backoffMs(backoff, attempt, chance)
        assert.ok(ms >= 0 && ms <= backoff.max_ms && Number.isFinite(ms), String(ms))
      },
    ),
  )
})

test('without jitter the waits double, grow by the base, or stay', () => {
  const waits = (strategy: Backoff['strategy']) =>
    [1, 2, 3, 4].map((attempt) => backoffMs({ strategy, base_ms: 100, max_ms: 500, jitter: 0 }, attempt, 0.7))
  assert.deepEqual(waits('exponential'), [100, 200, 400, 500])
  assert.deepEqual(waits('linear'), [100, 200, 300, 400])
  assert.deepEqual(waits('fixed'), [100, 100, 100, 100])
})

test('jitter draws only its share of the wait', () => {
  assert.equal(backoffMs({ ...DEFAULT_BACKOFF, base_ms: 1000, jitter: 0.2 }, 1, 0), 800)
  assert.equal(backoffMs({ ...DEFAULT_BACKOFF, base_ms: 1000, jitter: 0.2 }, 1, 1), 1000)
})
