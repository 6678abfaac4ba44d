import type postgres from 'postgres'
import type { Gate } from './gate.ts'

/** One way in which two operations can meet: who moved when, and what came of it. */
export interface Schedule<Result> {
  /** "A step.claim", "B commit", in their order. */
  moves: string[]
  results: Result[]
}

interface Actor<Result> {
  gate: Gate
  ended: boolean
  result: Promise<Result>
}

/**
 * Every order: at each moment one of those that wait at their gate is let through, and when all have ended the last
 * choice that has another side is taken again. What waits for a lock has no choice until it gets it.
 */
export async function explore<Result>(options: {
  gates: readonly [Gate, Gate]
  sql: postgres.Sql
  arrange(): Promise<void>
  act: readonly [() => Promise<Result>, () => Promise<Result>]
  check(schedule: Schedule<Result>): Promise<void>
}): Promise<number> {
  const { gates, sql, arrange, act, check } = options
  let prefix: number[] = []
  for (let schedules = 1; ; schedules++) {
    await arrange()
    const actors = gates.map((gate, i): Actor<Result> => {
      const result = (act[i] ?? act[0])()
      const actor: Actor<Result> = { gate, ended: false, result }
      const end = () => {
        actor.ended = true
      }
      result.then(end, end)
      return actor
    })
    const choices: { taken: number; of: number }[] = []
    const moves: string[] = []
    for (;;) {
      const ready = await settleDown(actors, sql)
      if (ready.length === 0) break
      const taken = prefix[choices.length] ?? 0
      choices.push({ taken, of: ready.length })
      const actor = ready[taken]
      if (!actor) throw new Error(`the same choices led elsewhere: ${moves.join(', ')}`)
      moves.push(`${'AB'[actors.indexOf(actor)]} ${actor.gate.waiting}`)
      actor.gate.letThrough()
    }
    const results = await Promise.all(actors.map((actor) => actor.result))
    await check({ moves, results })
    const last = choices.findLastIndex(({ taken, of }) => taken + 1 < of)
    if (last < 0) return schedules
    prefix = [...choices.slice(0, last).map(({ taken }) => taken), (choices[last]?.taken ?? 0) + 1]
  }
}

const LIMIT_MS = 20_000

/** Until each has ended, waits at its gate, or waits for a lock of the other; answers those that can move. */
async function settleDown<Result>(actors: Actor<Result>[], sql: postgres.Sql): Promise<Actor<Result>[]> {
  const atGate = () => actors.filter((actor) => !actor.ended && actor.gate.waiting !== undefined)
  const limit = performance.now() + LIMIT_MS
  for (;;) {
    // Answers are on their way: let them come in first.
    await new Promise((resolve) => setTimeout(resolve, 1))
    const moving = actors.filter((actor) => !actor.ended && actor.gate.waiting === undefined)
    if (moving.length === 0) break
    const blocked = await sql<{ name: string }[]>`
      select application_name as name from pg_stat_activity
      where application_name = any (${moving.map((actor) => actor.gate.name)}) and wait_event_type = 'Lock'`
    // If nobody is at a gate and all wait for locks, Postgres finds the deadlock in a moment.
    if (blocked.length === moving.length && atGate().length > 0) break
    if (performance.now() > limit)
      throw new Error(`${moving.map((actor) => actor.gate.name).join(', ')} neither ended nor waited`)
  }
  return atGate()
}
