import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Wish } from './arguments.ts'
import { installPeers } from './adapters/peers.ts'
import { countRuns, measureAll } from './measure.ts'
import { compare, ratiosToBare, record } from './report/keep.ts'
import { createProgress } from './report/progress.ts'
import { writeReport } from './report/write.ts'
import { rows } from './rows/all.ts'
import type { Measured } from './report/measured.ts'
import { createCopies } from './server/copy.ts'
import { startServer } from './server/start.ts'

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
  // What was measured by then is written all the same.
  const stop = new AbortController()
  process.once('SIGINT', () => stop.abort())
  try {
    await copies.clean()
    const measured: Measured[] = []
    await measureAll(cases, wish, { server, copies, size: wish.size }, progress, measured, stop.signal)
    progress.end()
    await writeReport(measured, wish, server)
    if (stop.signal.aborted) return 130
    if (wish.keep === 'record') record(ratiosToBare(measured))
    return wish.keep === 'compare' && !compare(ratiosToBare(measured)) ? 1 : 0
  } finally {
    await copies.clean()
    await server.stop()
  }
}

/** Pods run as users get them: compiled, from dist. */
function build() {
  const { status } = spawnSync('npm', ['run', 'build', '--silent'], {
    cwd: join(import.meta.dirname, '..'),
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  if (status !== 0)
    throw new Error('Fleet-Q does not compile: see above. The bench measures what `npm run build` makes.')
}
