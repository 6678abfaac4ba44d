import assert from 'node:assert/strict'
import { test } from 'node:test'
import { durationText } from '../../src/kernel/duration.ts'

test('a span is told in the unit that a person would choose', () => {
  assert.deepEqual([12.4, 1234, 59_990, 75_000, 3_599_900, 5_400_000].map(durationText), [
    '12 ms',
    '1.2 s',
    '1 min 0 s',
    '1 min 15 s',
    '1.0 h',
    '1.5 h',
  ])
})
