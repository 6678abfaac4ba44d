import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KINDS, type Kind } from './faults/kinds.ts'
import { makePlan, type Plan } from './plan.ts'
import { howToReplay } from './report.ts'

const kinds = Object.keys(KINDS) as Kind[]
const wish = { seed: 7, minutes: 3, pods: 5, steps: 100, faults: 200, without: [] }

test('one seed, one plan: drawn twice it is the same, and another seed draws another', () => {
  assert.deepEqual(makePlan(wish), makePlan(wish))
  assert.notDeepEqual(makePlan(wish).faults, makePlan({ ...wish, seed: 8 }).faults)
})

test('a plan of some length holds every kind of fault, but those that the machine cannot make', () => {
  const held = (without: Kind[]) => new Set(makePlan({ ...wish, without }).faults.map(({ kind }) => kind))
  assert.deepEqual([...held([])].toSorted(), kinds.toSorted())
  assert.deepEqual(kinds.filter((kind) => !held(['disk full', 'clock shifted']).has(kind)).toSorted(), [
    'clock shifted',
    'disk full',
  ])
})

test('what a run that failed has printed is enough to run its plan again', () => {
  const plan = makePlan(wish)
  assert.deepEqual(JSON.parse(howToReplay(plan).trim().split('\n').at(-1) ?? '') as Plan, plan)
})
