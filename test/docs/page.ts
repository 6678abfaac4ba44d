import { execFile } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import postgres from 'postgres'
import { loadConfig } from '../../src/config.ts'
import { startPod, type Pod } from '../../src/fleet/start-pod.ts'
import { silentLog } from '../../src/kernel/log.ts'
import { demoSteps } from '../../src/worker/builtin/demo.ts'
import { loadSteps } from '../../src/worker/load.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase, type TestDatabase } from '../support/database.ts'
import { get } from '../support/http.ts'
import { FAST } from '../support/processes.ts'
import { until } from '../support/until.ts'
import { blocksOf, type Block } from './markdown.ts'
import { hasCurl, NO_CURL, NO_PYTHON, pythonWithHttpx } from './programs.ts'
import { Ids, sameShape, sameText } from './shape.ts'

/**
 * Runs the code of a page from top to bottom, against one pod that has the page's own steps and the demonstration
 * types. How a block is run is its language; what else it is stands behind it:
 *
 *   ts            a program; `ts steps` a module of steps that the page's pod handles; `ts test` a test file
 *   sh            a script for bash with curl; sql: statements; python: a program that needs httpx
 *   json answer   what the block before it answered; `text output` what it printed
 *   not-run: why  anything that must not be run
 */

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const FILES: Record<string, string> = {
  'fleet-q': pathToFileURL(join(ROOT, 'src/index.ts')).href,
  'fleet-q/client': pathToFileURL(join(ROOT, 'src/client.ts')).href,
  'fleet-q/testing': pathToFileURL(join(ROOT, 'src/testing.ts')).href,
}
/** How long an answer may take to become what the page shows: steps need a moment. */
const SETTLE_MS = 10_000
const RUN_LIMIT_MS = 60_000
/** The pod shares its process with the test, and is not to die of a busy machine. */
const PATIENT = { FLEET_Q_DEAD_AFTER_SECONDS: '10', FLEET_Q_STALL_SECONDS: '60', FLEET_Q_GRACE_SECONDS: '2' }

interface Workshop {
  folder: string
  db: TestDatabase
  /** One connection, as psql has it: a page may begin in one block and commit in the next. */
  session: postgres.Sql
  pod: Pod
  url: string
  ids: Ids
}

interface Ran {
  printed: string
  /** Asks again; where asking changes nothing. */
  again?: () => Promise<string>
}

/** A user's import of the package, as it is found here. */
export const withOurFiles = (text: string) =>
  text.replaceAll(/(from |import\()'(fleet-q(?:\/\w+)?)'/g, (whole, before: string, name: string) => {
    const file = FILES[name]
    return file === undefined ? whole : `${before}'${file}'`
  })

export const isRun = (block: Block) =>
  block.notRun === undefined && ['ts', 'sh', 'sql', 'python', 'json'].includes(block.language)

const has = (block: Block, word: string) => block.words.includes(word)

/** One test a page, one within it for each block. `settings` of pages whose pod is not an ordinary one. */
export function testPages(pages: string[], settings: Record<string, Record<string, string>> = {}) {
  for (const page of pages) {
    const blocks = blocksOf(page)
    if (!blocks.some(isRun)) continue
    test(page, async (t) => {
      const workshop = await openWorkshop(page, blocks, settings[page] ?? {})
      let last: Ran | undefined
      for (const block of blocks) {
        const name = `${page}:${block.line} ${block.language} ${block.words.join(' ')}`.trim()
        if (block.notRun !== undefined) continue
        const missing = missingFor(block)
        if (missing !== undefined) {
          last = undefined
          await t.test(`${name}: NOT RUN, ${missing}`, (inner) => inner.diagnostic(missing))
        } else if (has(block, 'answer') || has(block, 'output')) {
          const before = last
          if (before) await t.test(name, () => compare(block, before, workshop))
        } else if (isRun(block))
          await t.test(name, async (inner) => void (last = await run(block, workshop, inner)))
      }
    })
  }
}

function missingFor({ language }: Block): string | undefined {
  if (language === 'python' && pythonWithHttpx === undefined) return NO_PYTHON
  if (language === 'sh' && !hasCurl) return NO_CURL
  return undefined
}

async function openWorkshop(
  page: string,
  blocks: Block[],
  settings: Record<string, string>,
): Promise<Workshop> {
  const folder = join(ROOT, '.cache', 'docs', `${process.pid}-${page.replaceAll(/\W+/g, '-')}`)
  const steps = join(folder, 'steps')
  mkdirSync(steps, { recursive: true })
  atEnd(() => rmSync(folder, { recursive: true, force: true }))
  for (const block of blocks)
    if (block.notRun === undefined && has(block, 'steps'))
      writeFileSync(join(steps, `line-${block.line}.ts`), withOurFiles(block.text))
  const db = await testDatabase()
  const session = postgres(db.url, { max: 1, onnotice: () => {} })
  atEnd(() => session.end({ timeout: 1 }))
  const pod = await startPod({
    config: loadConfig({ ...FAST, ...PATIENT, FLEET_Q_API_PORT: '0', ...settings }),
    databaseUrl: db.url,
    steps: [...(await loadSteps(steps)), ...demoSteps],
    log: silentLog(),
    onFenced: () => {},
  })
  atEnd(() => pod.stop())
  const url = `http://127.0.0.1:${pod.address.port}`
  // A page is about a fleet that is up; who leads it is known a moment after the start.
  await until(
    'the pod of the page to lead',
    async () => (await get(url, '/health')).body['is_leader'] === true,
  )
  return { folder, db, session, pod, url, ids: new Ids() }
}

async function run(block: Block, workshop: Workshop, t: TestContext): Promise<Ran> {
  const text = workshop.ids.putIn(block.text).replaceAll('http://localhost:8000', workshop.url)
  const env = {
    DATABASE_URL: workshop.db.url,
    POD_URL: workshop.url,
    FLEET_Q_API_PORT: String(workshop.pod.address.port),
  }
  switch (block.language) {
    case 'ts':
      if (has(block, 'steps')) return { printed: '' }
      return has(block, 'test') ? runTests(block, text, workshop) : runProgram(block, text, workshop, env)
    case 'sql': {
      const ask = async () => JSON.stringify(await workshop.session.unsafe(text))
      const looks = /^select\b/.test(text) && !text.includes('submit')
      return { printed: await ask(), ...(looks ? { again: ask } : {}) }
    }
    case 'python':
      return { printed: await execute(pythonWithHttpx ?? 'python3', ['-c', text], env) }
    case 'sh': {
      // As npm would, without its half second a call.
      const cli = `node --import tsx ${join(ROOT, 'src/cli.ts')}`
      const script = text.replaceAll(/npm run (-s )?fleet-q --|npx fleet-q\b/g, cli)
      const ask = () => execute('bash', ['-euc', script], env)
      const changes = /-X|-d |submit/.test(script)
      return { printed: await ask(), ...(changes ? {} : { again: ask }) }
    }
    case 'json':
      JSON.parse(text)
      return { printed: text }
    default:
      t.diagnostic(`nobody runs ${block.language}`)
      return { printed: '' }
  }
}

/** In this process, which has the library loaded: a page's programs take no time to start then. */
async function runProgram(
  block: Block,
  text: string,
  { folder }: Workshop,
  env: Record<string, string>,
): Promise<Ran> {
  const file = join(folder, `line-${block.line}.ts`)
  writeFileSync(file, withOurFiles(text))
  Object.assign(process.env, env)
  return { printed: await printedBy(() => import(pathToFileURL(file).href)) }
}

/** What a program writes by console.log. The test runner has stdout to itself. */
export async function printedBy(work: () => Promise<unknown>): Promise<string> {
  const { format } = await import('node:util')
  const lines: string[] = []
  const { log } = console
  console.log = (...words: unknown[]) => void lines.push(format(...words))
  try {
    await work()
  } finally {
    console.log = log
  }
  return lines.join('\n')
}

async function runTests(block: Block, text: string, { folder }: Workshop): Promise<Ran> {
  const file = join(folder, `line-${block.line}.test.ts`)
  writeFileSync(file, withOurFiles(text))
  return { printed: await execute(process.execPath, ['--import', 'tsx', '--test', file], {}) }
}

/** Fails with what it said where it does not end well. */
export function execute(command: string, args: string[], env: Record<string, string>): Promise<string> {
  // Our own runner's words for its children would make a `node --test` within talk to it.
  const { NODE_TEST_CONTEXT: _, ...inherited } = process.env
  const options = { cwd: ROOT, timeout: RUN_LIMIT_MS, env: { ...inherited, ...env } }
  return new Promise((resolve, reject) => {
    execFile(command, args, options, (error, stdout, stderr) => {
      if (error) reject(new Error(`${command} ${args.join(' ')}\n${stdout}\n${stderr}`, { cause: error }))
      else resolve(stdout)
    })
  })
}

async function compare(block: Block, ran: Ran, { ids }: Workshop) {
  const until = performance.now() + SETTLE_MS
  for (let printed = ran.printed; ; printed = (await ran.again?.()) ?? printed) {
    try {
      if (has(block, 'output')) sameText(block.text, printed, ids)
      else sameShape(JSON.parse(block.text), JSON.parse(printed), ids)
      return
    } catch (error) {
      if (!ran.again || performance.now() > until) throw error
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
}
