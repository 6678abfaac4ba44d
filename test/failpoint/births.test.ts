import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { PLACES } from '../../src/kernel/failpoint.ts'
import { asked } from './asked.ts'
import { atWork } from './at-work.ts'
import { bear, births } from './births.ts'
import { leading } from './leading.ts'
import { remembering } from './remembering.ts'
import { KINDS } from './scene.ts'

test('each place of the product is in the matrix', () => {
  const covered = new Set(
    [...asked, ...atWork, ...leading, ...remembering, ...births].flatMap(({ places }) => places),
  )
  assert.deepEqual(
    PLACES.filter((place) => !covered.has(place)),
    [],
  )
})

for (const birth of births)
  describe(`in the middle of ${birth.name}`, () => {
    for (const place of birth.places)
      for (const kind of KINDS)
        test(`${place}: ${kind}`, async (t) => {
          const startedAt = performance.now()
          await bear(birth, place, kind)
          t.diagnostic(`${place} ${kind}: ${Math.round(performance.now() - startedAt)} ms`)
        })
  })
