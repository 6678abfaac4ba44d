import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { checkAll, loadHistory } from '../chaos/check/check.ts'
import { play } from './cell.ts'
import { prepareFleet } from './fleet.ts'
import { KINDS, type Operation } from './scene.ts'

/** Each place of each operation, with all that can happen there: a test each, on one fleet. */
export function matrix(operations: Operation[]) {
  let fleet = begin()

  for (const operation of operations)
    describe(`in the middle of ${operation.name}`, () => {
      for (const place of operation.places)
        for (const kind of KINDS)
          test(`${place}: ${kind}`, async (t) => {
            try {
              t.diagnostic(`${place} ${kind}: ${await play(await fleet, operation, place, kind)}`)
            } catch (error) {
              // What it lost is lost for ever: the next cell begins on another database.
              await fleet.then((failed) => failed.end())
              fleet = begin()
              throw error
            }
          })
    })

  test('what the database wrote down of all this, and what callers were told, fit together', async () => {
    const { sql, told } = await fleet
    await loadHistory(sql, told, '')
    const broken = (await checkAll(sql)).filter(({ witnesses }) => witnesses.length > 0)
    assert.deepEqual(
      broken.map(({ id, says, witnesses }) => ({ id, says, witnesses })),
      [],
    )
  })
}

/** Its failure is told by whoever waits for it, and nobody may. */
function begin() {
  const fleet = prepareFleet()
  fleet.catch(() => {})
  return fleet
}
