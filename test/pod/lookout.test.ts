import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLookout } from '../../src/pod/lookout.ts'

/** Drawn so far; transactions before the first have ended, the second is the next to begin. */
const beat = (drawn: string, ended_before: string, begun_before: string) =>
  [drawn, { ended_before, begun_before }] as const

test('a pod looks for work where positions have moved since its last beat, and not otherwise', () => {
  const mayHaveWork = createLookout()
  assert.equal(mayHaveWork(...beat('5', '100', '100')), true)
  assert.equal(
    mayHaveWork(...beat('5', '100', '100')),
    true,
    'once more: what drew them may have committed since',
  )
  assert.equal(mayHaveWork(...beat('5', '100', '100')), false)
  assert.equal(mayHaveWork(...beat('5', '180', '190')), false, 'others write, and no position is drawn')
  assert.equal(mayHaveWork(...beat('6', '190', '190')), true)
})

test('it looks on as long as a transaction is open that may have drawn one, and once when it has ended', () => {
  const mayHaveWork = createLookout()
  assert.equal(mayHaveWork(...beat('5', '90', '100')), true)
  assert.equal(mayHaveWork(...beat('5', '90', '140')), true)
  assert.equal(mayHaveWork(...beat('5', '90', '180')), true)
  assert.equal(mayHaveWork(...beat('5', '100', '180')), true)
  assert.equal(mayHaveWork(...beat('5', '100', '200')), false)
})
