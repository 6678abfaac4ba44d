import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startLocalPostgres } from '../src/db/local/start.ts'
import { createTemplate } from './support/template.ts'

/**
 * npm test: one Postgres for the whole run, a migrated template in it, and a database of its own for each test file.
 * `npm test -- recovery plans` runs the files whose path contains one of the words; TEST_DATABASE_URL uses a server
 * of yours; TEST_POSTGRES=npm the Postgres that npm brings, even where the machine has one.
 */

/** Suites with scripts of their own: they need tools or minutes that `npm test` must not ask for. */
const APART = ['test/support', 'test/interleaving']

const words = process.argv.slice(2).filter((arg) => !arg.startsWith('-'))

function testFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return APART.includes(path) && !words.includes(path) ? [] : testFiles(path)
    return entry.name.endsWith('.test.ts') ? [path] : []
  })
}

const files = testFiles('test')
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .toSorted()
if (files.length === 0) {
  process.stderr.write(`no test file contains ${words.join(' or ')}\n`)
  process.exit(1)
}

const given = process.env['TEST_DATABASE_URL']
const folder = mkdtempSync(join(tmpdir(), 'fleet-q-test-'))
const local = given
  ? undefined
  : await startLocalPostgres({
      dataDir: folder,
      prefer: process.env['TEST_POSTGRES'] === 'npm' ? 'npm' : 'system',
      settings: {
        // Tests kill pods and backends, never the machine: what fsync protects from does not happen here.
        fsync: 'off',
        synchronous_commit: 'off',
        full_page_writes: 'off',
        max_connections: '400',
        shared_preload_libraries: '',
      },
    })
const url = given ?? local?.url ?? ''
process.stderr.write(
  `tests on Postgres at ${new URL(url).host}${local ? ` (${local.version}, its own)` : ''}\n`,
)
const template = await createTemplate(url)

/**
 * Two rounds. Tests of death and outage live by thresholds of a second or three; they run apart from those that keep
 * both cores busy, or healthy pods would look dead.
 */
const TIMED = ['test/recovery/', 'test/outage/', 'test/race/', 'test/db/']
const isTimed = (file: string) => TIMED.some((folder) => file.startsWith(folder))
const reporter = process.stdout.isTTY ? [] : ['--test-reporter=spec']
let child: ChildProcess | undefined
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child?.kill(signal))

async function round(chosen: string[], concurrency: number): Promise<number> {
  if (chosen.length === 0) return 0
  const running = spawn(
    process.execPath,
    ['--import', 'tsx', '--test', `--test-concurrency=${concurrency}`, ...reporter, ...chosen],
    { stdio: 'inherit', env: { ...process.env, TEST_DATABASE_URL: url, TEST_TEMPLATE: template.name } },
  )
  child = running
  return new Promise((resolve) => running.on('exit', (status) => resolve(status ?? 1)))
}

const codes = [
  await round(
    files.filter((file) => !isTimed(file)),
    3,
  ),
  await round(files.filter(isTimed), 2),
]
await template.drop()
await local?.stop()
// As root the data lies where the server's own user can reach it.
if (local) rmSync(local.dataDir, { recursive: true, force: true })
rmSync(folder, { recursive: true, force: true })
process.exit(Math.max(...codes))
