import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLookout } from '../../src/pod/lookout.ts'

const beat = (last_position: string, ended_before: string, begun_before: string, paused = false) => ({
  last_position,
  ended_before,
  begun_before,
  paused,
})

test('a pod looks for work where positions have moved since its last beat, and not otherwise', () => {
  const mayHaveWork = createLookout()
  assert.equal(mayHaveWork(beat('5', '100', '100')), true)
  assert.equal(
    mayHaveWork(beat('5', '100', '100')),
    true,
    'once more: what drew them may have committed since',
  )
  assert.equal(mayHaveWork(beat('5', '100', '100')), false)
  assert.equal(mayHaveWork(beat('5', '180', '190')), false, 'others write, and no position is drawn')
  assert.equal(mayHaveWork(beat('6', '190', '190')), true)
})

test('it looks on as long as a transaction is open that may have drawn one, and once when it has ended', () => {
  const mayHaveWork = createLookout()
  assert.equal(mayHaveWork(beat('5', '90', '100')), true)
  assert.equal(mayHaveWork(beat('5', '90', '140')), true)
  assert.equal(mayHaveWork(beat('5', '90', '180')), true)
  assert.equal(mayHaveWork(beat('5', '100', '180')), true)
  assert.equal(mayHaveWork(beat('5', '100', '200')), false)
})

test('it looks at each beat while something is paused: the pause may end by the clock', () => {
  const mayHaveWork = createLookout()
  mayHaveWork(beat('5', '100', '100'))
  mayHaveWork(beat('5', '100', '100'))
  assert.equal(mayHaveWork(beat('5', '100', '100', true)), true)
  assert.equal(mayHaveWork(beat('5', '100', '100')), false)
})
