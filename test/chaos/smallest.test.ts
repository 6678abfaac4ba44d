import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { smallest } from './smallest.ts'

/** Shrinking a plan, without the runs: what fails is known here. */

const RUNS = { numRuns: 2000 }

/** A run fails where it holds all faults of one of these sets. */
const failure = fc.record({
  count: fc.integer({ min: 0, max: 40 }),
  culprits: fc.array(fc.array(fc.nat(39), { maxLength: 4 }), { minLength: 1, maxLength: 3 }),
})

test('what is left still fails, keeps its order, and no single one of it can be left out', () => {
  fc.assert(
    fc.property(failure, ({ count, culprits }) => {
      const all = Array.from({ length: count }, (_, n) => n)
      const fails = (some: readonly number[]) => culprits.some((set) => set.every((n) => some.includes(n)))
      fc.pre(fails(all))
      const left = smallest(all, fails)
      assert.ok(fails(left))
      assert.deepEqual(
        left,
        all.filter((n) => left.includes(n)),
      )
      for (const one of left)
        assert.ok(!fails(left.filter((n) => n !== one)), `${one} of ${left.join()} is not needed`)
    }),
    RUNS,
  )
})

test('it ends after a bounded number of runs, and never fails less, also where a run fails as it pleases', () => {
  fc.assert(
    fc.property(fc.nat(40), fc.infiniteStream(fc.boolean()), (count, dice) => {
      const all = Array.from({ length: count }, (_, n) => n)
      let runs = 0
      let lastThatFailed: readonly number[] = all
      const left = smallest(all, (some) => {
        runs++
        const failed = dice.next().value === true
        if (failed) lastThatFailed = some
        return failed
      })
      assert.deepEqual(left, lastThatFailed)
      assert.ok(runs <= count * count + 3 * count + 1, `${runs} runs for ${count} faults`)
    }),
    RUNS,
  )
})

test('one culprit of 64 faults is found in few runs', () => {
  let runs = 0
  const left = smallest(
    Array.from({ length: 64 }, (_, n) => n),
    (some) => {
      runs++
      return some.includes(37)
    },
  )
  assert.deepEqual(left, [37])
  assert.ok(runs <= 25, `${runs} runs`)
})
