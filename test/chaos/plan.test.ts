import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drawExecution } from './executions.ts'
import { KINDS, type Kind } from './faults/kinds.ts'
import { makePlan, type Plan } from './plan.ts'
import { howToReplay } from './report.ts'

const kinds = Object.keys(KINDS) as Kind[]
const wish = { seed: 7, minutes: 3, pods: 5, steps: 100, executions: 10, faults: 200, without: [] }

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

test('one seed, the same executions: of each kind, some cancelled, some with events before and after they are asked for', () => {
  const drawn = (seed: number) => Array.from({ length: 500 }, (_, n) => drawExecution(seed, n))
  assert.deepEqual(drawn(7), drawn(7))
  assert.notDeepEqual(drawn(7), drawn(8))
  const tasks = new Set(drawn(7).map((each) => each.task_name))
  assert.deepEqual([...tasks].toSorted(), ['beside', 'parent', 'remembers', 'saga', 'waits'])
  assert.ok(drawn(7).some(({ cancelAfterMs }) => cancelAfterMs !== undefined))
  const events = drawn(7).flatMap((each) => each.events)
  for (const some of [
    events.filter(({ afterMs }) => afterMs === 0),
    events.filter(({ afterMs }) => afterMs > 1000),
    events.filter(({ times }) => times === 2),
  ])
    assert.ok(some.length > 0)
})
