import { spawn, type ChildProcess } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { startTestServer } from './support/server.ts'
import { createTemplate } from './support/template.ts'

/**
 * npm test: one Postgres for the whole run, a migrated template in it, and a database of its own for each test file.
 * `npm test -- recovery plans` runs the files whose path contains one of the words; what begins with --test- goes to
 * node (`--test-name-pattern=poison`). TEST_DATABASE_URL uses a server of yours; TEST_POSTGRES=npm the Postgres that
 * npm brings, even where the machine has one.
 */

/** Suites with scripts of their own: they need tools or minutes that `npm test` must not ask for. */
const APART = ['test/support', 'test/interleaving', 'test/failpoint']

const words = process.argv.slice(2).filter((arg) => !arg.startsWith('-'))
const options = process.argv.slice(2).filter((arg) => arg.startsWith('--test-'))

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
const own = given ? undefined : await startTestServer()
const url = given ?? own?.url ?? ''
process.stderr.write(`tests on Postgres at ${new URL(url).host}${own ? ` (${own.version}, its own)` : ''}\n`)
const template = await createTemplate(url)

/**
 * Two rounds. Tests of death and outage live by thresholds of a second or three; they run apart from those that keep
 * both cores busy, or healthy pods would look dead.
 */
const TIMED = ['test/recovery/', 'test/outage/', 'test/race/', 'test/db/', 'test/failpoint/']
const isTimed = (file: string) => TIMED.some((folder) => file.startsWith(folder))
if (!process.stdout.isTTY && !options.some((option) => option.startsWith('--test-reporter')))
  options.push('--test-reporter=spec')
let child: ChildProcess | undefined
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child?.kill(signal))

async function round(chosen: string[], concurrency: number): Promise<number> {
  if (chosen.length === 0) return 0
  const running = spawn(
    process.execPath,
    ['--import', 'tsx', '--test', `--test-concurrency=${concurrency}`, ...options, ...chosen],
    {
      stdio: 'inherit',
      env: { ...process.env, TEST_DATABASE_URL: url, TEST_TEMPLATE: template.name },
    },
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
await own?.stop()
process.exit(Math.max(...codes))
