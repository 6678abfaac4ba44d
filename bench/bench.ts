import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { findAdapter } from './adapters/find.ts'
import type { Wish } from './arguments.ts'
import { installPeers } from './adapters/peers.ts'
import { compare, ratiosToBare, record } from './report/keep.ts'
import { createProgress, type Progress } from './report/progress.ts'
import { writeReport } from './report/write.ts'
import { rows } from './rows/all.ts'
import { NoFigure, type Bench, type Case } from './rows/row.ts'
import type { Measured } from './report/measured.ts'
import { createCopies } from './server/copy.ts'
import { startServer } from './server/start.ts'

const ROUNDS = 3
const CACHE = join(import.meta.dirname, '../.cache/bench')

/** Everybody in turns, round by round, so that a slow minute of the machine meets them all. Answers an exit code. */
export async function bench(wish: Wish): Promise<number> {
  const cases = rows.filter(({ name }) => wish.rows.includes(name)).flatMap((row) => row.cases(wish.size))
  const progress = createProgress(countRuns(cases, wish))
  build()
  installPeers(progress.say)
  mkdirSync(CACHE, { recursive: true })
  const server = await startServer(CACHE, process.env['BENCH_DATABASE_URL'])
  const copies = createCopies(server)
  const interrupted = new Promise<never>((_, reject) => {
    process.once('SIGINT', () => reject(new Error('interrupted')))
  })
  try {
    await copies.clean()
    const measured: Measured[] = []
    const all = measureAll(cases, wish, { server, copies, size: wish.size }, progress, measured)
    const stopped = await Promise.race([all, interrupted]).catch((error: unknown) => error)
    progress.end()
    await writeReport(measured, wish, server)
    if (stopped instanceof Error) {
      console.error(stopped.stack)
      return 1
    }
    if (wish.keep === 'record') record(ratiosToBare(measured))
    return wish.keep === 'compare' && !compare(ratiosToBare(measured)) ? 1 : 0
  } finally {
    await copies.clean()
    await server.stop()
  }
}

function build() {
  execFileSync('npm', ['run', 'build', '--silent'], {
    cwd: join(import.meta.dirname, '..'),
    stdio: ['ignore', 'inherit', 'inherit'],
  })
}

const wanted = ({ contenders }: Case, { only }: Wish) =>
  contenders.filter(({ name }) => only.length === 0 || only.includes(name))

const roundsOf = (each: Case, { rounds }: Wish) => rounds ?? each.rounds ?? ROUNDS

const countRuns = (cases: Case[], wish: Wish) =>
  cases.reduce((sum, each) => sum + wanted(each, wish).length * roundsOf(each, wish), 0)

async function measureAll(cases: Case[], wish: Wish, bench: Bench, progress: Progress, measured: Measured[]) {
  for (const each of cases) {
    const contenders = wanted(each, wish)
    const mine = contenders.map(({ name, profile }): Measured => ({
      row: each.row,
      title: each.title,
      metrics: each.metrics,
      name,
      profile,
      settings: '',
      less: '',
      runs: [],
      failures: [],
    }))
    measured.push(...mine)
    for (let round = 0; round < roundsOf(each, wish); round++)
      for (const one of mine) await measureOnce(each, one, bench, progress)
  }
}

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
    const run = await each.measure({ adapter, profile: into.profile }, bench)
    into.runs.push({ ...run, ms: performance.now() - begun })
    progress.done(each.metrics.map(({ key, unit }) => `${format(run.figures[key])} ${unit}`).join(', '))
  } catch (error) {
    const why =
      error instanceof NoFigure ? error.message : String(error instanceof Error ? error.stack : error)
    into.failures.push(why)
    progress.done(`no figure: ${why}`)
  }
}

const format = (value: number | undefined) =>
  value === undefined ? '-' : value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3)
