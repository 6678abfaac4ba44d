import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { BUGS } from './bugs.ts'

test('every planted bug still fits the product: what it replaces stands there, once', () => {
  const unfit = BUGS.flatMap(({ what, changes }) =>
    changes
      .filter(({ file, from }) => !existsSync(file) || readFileSync(file, 'utf8').split(from).length !== 2)
      .map(({ file }) => `${what}: ${file}`),
  )
  assert.deepEqual(unfit, [])
})
