import { findAdapter } from './adapters/find.ts'
import type { Wish } from './arguments.ts'
import type { Measured } from './report/measured.ts'
import type { Progress } from './report/progress.ts'
import { NoFigure, ROUNDS, type Bench, type Case, type Entry } from './rows/row.ts'
import { watchOthers } from './server/others.ts'

const wanted = ({ contenders }: Case, { only }: Wish) =>
  contenders.filter(({ name }) => only.length === 0 || only.includes(name))

const roundsOf = ({ rounds }: Entry, wish: Wish) => wish.rounds ?? rounds ?? ROUNDS

export const countRuns = (cases: Case[], wish: Wish) =>
  cases.flatMap((each) => wanted(each, wish)).reduce((sum, entry) => sum + roundsOf(entry, wish), 0)

/** Everybody in turns, round by round, so that a slow minute of the machine meets them all. */
export async function measureAll(
  cases: Case[],
  wish: Wish,
  bench: Bench,
  progress: Progress,
  measured: Measured[],
  stop: AbortSignal,
): Promise<void> {
  for (const each of cases) {
    if (stop.aborted) return
    const mine = wanted(each, wish).map((entry) => ({ entry, into: emptyOf(each, entry) }))
    measured.push(...mine.map(({ into }) => into))
    const rounds = Math.max(0, ...mine.map(({ entry }) => roundsOf(entry, wish)))
    for (let round = 0; round < rounds; round++)
      for (const { entry, into } of mine)
        if (round < roundsOf(entry, wish) && !stop.aborted) await measureOnce(each, into, bench, progress)
  }
}

const emptyOf = ({ row, title, metrics }: Case, { name, profile }: Entry): Measured => ({
  row,
  title,
  metrics,
  name,
  profile,
  settings: '',
  less: '',
  runs: [],
  failures: [],
})

async function measureOnce(each: Case, into: Measured, bench: Bench, progress: Progress) {
  progress.begin(`${each.title}: ${into.name}`)
  const begun = performance.now()
  try {
    // What is not to be had here (no Redis, say) is not tried again.
    if (into.unavailable === undefined) {
      const adapter = await findAdapter(into.name)
      into.settings = adapter.profiles[into.profile] ?? ''
      into.less = adapter.less
      into.unavailable = await adapter.unavailable?.()
    }
    if (into.unavailable !== undefined) {
      progress.done(`not measured: ${into.unavailable}`)
      return
    }
    const adapter = await findAdapter(into.name)
    const others = await watchOthers(bench.server)
    const run = await each.measure({ adapter, profile: into.profile }, bench)
    // A server of its own, Redis, would be taken for something else.
    const othersCpu = adapter.store === 'postgres' ? others() : 0
    into.runs.push({ ...run, ms: performance.now() - begun, othersCpu })
    const said = each.metrics.map(({ key, unit }) => `${format(run.figures[key])} ${unit}`).join(', ')
    progress.done(`${said}; other things took ${Math.round(othersCpu * 100)} % of the machine`)
  } catch (error) {
    const why =
      error instanceof NoFigure ? error.message : String(error instanceof Error ? error.stack : error)
    into.failures.push(why)
    progress.done(`no figure: ${why}`)
  }
}

const format = (value: number | undefined) =>
  value === undefined ? '-' : value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3)
