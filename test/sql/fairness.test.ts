import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { takeTurns, type Turn } from '../../src/step/circle.ts'
import { exchange } from '../../src/step/exchange.sql.ts'
import { testDatabase } from '../support/database.ts'
import { addPod, claimedOf, want } from './arrange.ts'

/** One pod claims again and again from lanes drawn by chance, which fill up, are paused and opened meanwhile. */

const RUNS = { numRuns: 150 }
const { sql } = await testDatabase()
const podId = await addPod(sql, ['ours', 'ours too'])
const WANTED = ['ours', 'ours too']

interface Lane {
  id: number
  type: string
  priority: number
  key: string
  paused: boolean
  /** Step by step, in the order in which they are to come. */
  lying: string[]
}

type Move =
  | { kind: 'fill'; lane: number; steps: number }
  | { kind: 'pause'; lane: number }
  | { kind: 'claim'; most: number }

const lane = fc.record({
  type: fc.constantFrom('ours', 'ours', 'ours', 'ours too', 'of others'),
  priority: fc.constantFrom(0, 0, 1),
  key: fc.constantFrom('', 'a', 'b'),
  steps: fc.oneof(fc.nat({ max: 3 }), fc.nat({ max: 30 })),
})
const move: fc.Arbitrary<Move> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('fill' as const),
      lane: fc.nat(),
      steps: fc.integer({ min: 1, max: 6 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pause' as const), lane: fc.nat() }) },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('claim' as const), most: fc.integer({ min: 1, max: 8 }) }),
  },
)

async function fill(into: Lane, count: number) {
  const rows = await sql<{ id: string }[]>`
    with fresh as (
      insert into fleet_q.steps (salt, lane_id, max_retries, args)
      select n, ${into.id}, 0, '{}' from generate_series(1, ${count}::int) as n returning id
    ),
    lying as (insert into fleet_q.ready (lane_id, step_id, attempt) select ${into.id}, id, 1 from fresh order by id)
    select id from fresh order by id`
  into.lying.push(...rows.map((row) => row.id))
}

async function setUp(wishes: { type: string; priority: number; key: string; steps: number }[]) {
  await sql`truncate fleet_q.lanes, fleet_q.steps, fleet_q.ready, fleet_q.claims, fleet_q.pauses restart identity`
  const lanes: Lane[] = []
  for (const { type, priority, key, steps } of wishes) {
    const [row] = await sql<{ id: number }[]>`select fleet_q.lane_of(${type}, ${priority}, ${key}) as id`
    const made = { id: row?.id ?? 0, type, priority, key, paused: false, lying: [] }
    lanes.push(made)
    if (steps > 0) await fill(made, steps)
  }
  return lanes
}

/** Of a type and key: lanes of all their priorities. */
async function turnPause(all: Lane[], { type, key, paused }: Lane) {
  for (const one of all) if (one.type === type && one.key === key) one.paused = !paused
  if (paused) await sql`delete from fleet_q.pauses where type = ${type} and key = ${key}`
  else await sql`insert into fleet_q.pauses (type, key) values (${type}, ${key})`
}

test('higher priorities first, lanes of one priority in turn, each in its order; never more than asked for, never what is paused or of others', async () => {
  const lanes = fc.uniqueArray(lane, {
    minLength: 3,
    maxLength: 6,
    selector: ({ type, priority, key }) => `${type} ${priority} ${key}`,
  })
  await fc.assert(
    fc.asyncProperty(lanes, fc.array(move, { maxLength: 40, size: 'max' }), async (wishes, moves) => {
      const all = await setUp(wishes)
      const pick = (n: number) => all[n % all.length] as Lane
      const isOpen = (one: Lane) => WANTED.includes(one.type) && !one.paused && one.lying.length > 0
      /** How often others of its priority were visited since a lane that waits had its turn. */
      const waited = new Map<Lane, Map<Lane, number>>()
      let turns: readonly Turn[] = []

      for (const each of moves) {
        if (each.kind === 'fill') await fill(pick(each.lane), each.steps)
        else if (each.kind === 'pause') await turnPause(all, pick(each.lane))
        else await claim(each.most)
      }

      async function claim(most: number) {
        const could = all.filter(isOpen)
        const lying = could.reduce((sum, one) => sum + one.lying.length, 0)
        const claimed = claimedOf(
          await exchange(sql, want(podId, { types: WANTED, limit: most, turns }), [], []),
        )
        turns = takeTurns(turns, claimed)
        assert.equal(claimed.length, Math.min(most, lying), 'it takes what there is, and what it asked for')
        const visited = new Set<Lane>()
        for (const step of claimed) {
          const from = could.find((one) => one.id === step.lane_id)
          assert.ok(from, `lane ${step.lane_id} was not to be touched`)
          assert.equal(step.step_id, from.lying.shift(), 'a lane keeps its order')
          visited.add(from)
        }
        const lowest = Math.min(...[...visited].map((one) => one.priority))
        for (const one of all.filter(isOpen))
          assert.ok(one.priority <= lowest || visited.size === 0, 'a higher priority goes first')

        for (const one of all) {
          if (visited.has(one) || !isOpen(one)) waited.delete(one)
          // It waited before this claim, and waits after it.
          else if (could.includes(one)) {
            const turns = waited.get(one) ?? new Map<Lane, number>()
            waited.set(one, turns)
            for (const other of visited)
              if (other !== one && other.priority === one.priority) {
                turns.set(other, (turns.get(other) ?? 0) + 1)
                assert.ok(
                  (turns.get(other) ?? 0) <= 1,
                  `lane ${other.id} has its turn again while lane ${one.id} of its priority waits`,
                )
              }
          }
        }
      }
    }),
    RUNS,
  )
})
