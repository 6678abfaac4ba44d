import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { CheckpointRow } from '../../src/execution/checkpoint.sql.ts'
import { createReplay, type Replay } from '../../src/execution/replay.ts'

/** Branches that run side by side, each a list of names; names repeat, within a branch and among them. */
type Program = string[][]

const row = (name: string, number: number, turn: number | null, result: unknown): CheckpointRow => ({
  step_id: '1',
  name,
  number,
  kind: 'run',
  turn,
  due_ms: null,
  arrived: false,
  failures: 0,
  child_id: null,
  result,
  empty: false,
  stored_bytes: 0,
  error: null,
})

/** What a pod does with it: bodies take their time, and what they bring is kept. The pod dies after so many. */
async function attempt(program: Program, kept: CheckpointRow[], chance: () => number, diesAfter: number) {
  let died: () => void = () => {}
  const death = new Promise<'died'>((resolve) => (died = () => resolve('died')))
  let brought = 0
  const replay = createReplay([...kept], {
    onMisfit: (next, asked) => assert.fail(`asked for ${asked}, not for ${next.name}`),
    onRest() {},
    patienceMs: 10_000,
  })

  async function run(name: string, value: string): Promise<unknown> {
    const ask = replay.ask(name)
    if (ask.remembered?.turn) {
      await replay.handed(ask.remembered.turn)
      return ask.remembered.result
    }
    await ask.frontier()
    for (let wait = Math.floor(chance() * 4); wait > 0; wait--) await new Promise(setImmediate)
    if (brought++ === diesAfter) died()
    if (brought > diesAfter) return new Promise(() => {})
    const turn = replay.takeTurn()
    kept.push(row(name, ask.number, turn, value))
    await replay.handed(turn)
    return value
  }

  const got: unknown[] = []
  const end = Promise.all(
    program.map(async (names, branch) => {
      for (const [place, name] of names.entries()) {
        // What a handler does between two of them takes more turns of the queue here, and fewer there.
        for (let turn = (branch * 7 + place * 3) % 5; turn > 0; turn--) await Promise.resolve()
        got.push([`${branch}.${place}`, await run(name, `${branch}.${place}`)])
      }
    }),
  )
  const how = await Promise.race([end.then(() => 'ended' as const), death])
  replay.end()
  return { how, got, missed: replay.missed()[0] }
}

const chanceOf = (seed: number) => () => {
  seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31
  return seed / 2 ** 31
}

test('whatever runs side by side and whenever it dies, each place gets what it had brought itself', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 4 }), {
        minLength: 1,
        maxLength: 4,
      }),
      fc.array(fc.nat({ max: 5 }), { maxLength: 6 }),
      fc.nat(),
      async (program, deaths, seed) => {
        const kept: CheckpointRow[] = []
        const chance = chanceOf(seed)
        for (const death of [...deaths, Number.POSITIVE_INFINITY]) {
          const { how, got, missed } = await attempt(program, kept, chance, death)
          for (const [place, value] of got as [string, unknown][]) assert.equal(value, place)
          if (how === 'ended') assert.equal(missed, undefined)
        }
        assert.equal(kept.length, program.flat().length, 'each was brought once')
      },
    ),
    { numRuns: 300 },
  )
})

const rest = async () => {
  for (let i = 0; i < 5; i++) await new Promise(setImmediate)
}

test('what is new waits until all that is remembered was handed out', async () => {
  const replay = createReplay([row('a', 1, 1, 'A'), row('b', 1, 2, 'B')], {
    onMisfit() {},
    onRest() {},
    patienceMs: 10_000,
  })
  const order: string[] = []
  const fresh = replay
    .ask('new')
    .frontier()
    .then(() => order.push('new'))
  const a = replay.ask('a')
  await replay.handed(a.remembered?.turn ?? 0).then(() => order.push('a'))
  await rest()
  assert.deepEqual(order, ['a'])
  const b = replay.ask('b')
  await replay.handed(b.remembered?.turn ?? 0).then(() => order.push('b'))
  await fresh
  assert.deepEqual(order, ['a', 'b', 'new'])
})

test('code that asks for something new where something else is remembered does not fit', async () => {
  const misfit = await new Promise<string>((resolve) => {
    const replay: Replay = createReplay([row('a', 1, 1, 'A')], {
      onMisfit: (next, asked) => resolve(`${asked} for ${next.name}`),
      onRest() {},
      patienceMs: 10_000,
    })
    void replay.ask('renamed').frontier()
  })
  assert.equal(misfit, 'renamed for a')
})

test('code that asks for what comes later, and not for what comes next, does not fit', async () => {
  const misfit = await new Promise<string>((resolve) => {
    const replay: Replay = createReplay([row('a', 1, 1, 'A'), row('b', 1, 2, 'B')], {
      onMisfit: (next, asked) => resolve(`${asked} for ${next.name}`),
      onRest() {},
      patienceMs: 200,
    })
    void replay.handed(replay.ask('b').remembered?.turn ?? 0)
  })
  assert.equal(misfit, 'b for a')
})

test('a turn that was taken for nothing holds up nobody', async () => {
  const replay = createReplay([], { onMisfit() {}, onRest() {}, patienceMs: 10_000 })
  const lost = replay.takeTurn()
  const next = replay.takeTurn()
  const handed = replay.handed(next)
  replay.dropTurn(lost)
  await handed
})
