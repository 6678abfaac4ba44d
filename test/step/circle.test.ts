import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { arcsOf, takeTurns, type Turn } from '../../src/step/circle.ts'

const RUNS = { numRuns: 2000 }

const lane = fc.record({ priority: fc.integer({ min: -2, max: 2 }), lane_id: fc.integer({ min: 1, max: 9 }) })
const lanes = fc.uniqueArray(lane, {
  minLength: 1,
  maxLength: 20,
  selector: ({ priority, lane_id }) => `${priority} ${lane_id}`,
})

type Lane = { priority: number; lane_id: number }

/** As the claim walks them: arc after arc, and in each as the index has them. */
const walk = (all: Lane[], turns: readonly Turn[]): Lane[] =>
  arcsOf(turns).flatMap(({ highest, lowest, first, last }) =>
    all
      .filter(
        ({ priority, lane_id }) =>
          priority <= highest && priority >= lowest && lane_id >= first && lane_id <= last,
      )
      .toSorted((one, other) => other.priority - one.priority || one.lane_id - other.lane_id),
  )

test('whatever was visited before, a claim comes to each lane once, and to those of higher priority first', () => {
  fc.assert(
    fc.property(lanes, fc.array(fc.array(lane, { maxLength: 6 }), { maxLength: 6 }), (all, claims) => {
      const turns = claims.reduce((so: readonly Turn[], claimed) => takeTurns(so, claimed), [])
      const visited = walk(all, turns)
      assert.equal(visited.length, all.length)
      assert.equal(new Set(visited).size, all.length)
      const priorities = visited.map(({ priority }) => priority)
      assert.deepEqual(
        priorities,
        priorities.toSorted((one, other) => other - one),
      )
    }),
    RUNS,
  )
})

test('the lane that a claim came to last is the last that the next one comes to, in each priority by itself', () => {
  fc.assert(
    fc.property(
      lanes,
      fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 6 }),
      (all, counts) => {
        let turns: readonly Turn[] = []
        const lastOf = new Map<number, Lane>()
        for (const count of counts) {
          const claimed = walk(all, turns).slice(0, count)
          for (const each of claimed) lastOf.set(each.priority, each)
          // A claim answers in the order of positions, not of its walk.
          turns = takeTurns(
            turns,
            claimed.toSorted((one, other) => one.lane_id - other.lane_id),
          )
          for (const [priority, last] of lastOf)
            assert.deepEqual(
              walk(all, turns)
                .filter((each) => each.priority === priority)
                .at(-1),
              last,
            )
        }
      },
    ),
    RUNS,
  )
})
