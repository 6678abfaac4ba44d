import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { test } from 'node:test'

/** The house tidies itself: a rule we care about is a test with a friendly message. CONTRIBUTING.md shows the floors. */

/** A floor may look down, never up; names that share a floor may not see each other. */
const FLOORS: Record<string, number> = {
  errors: 0,
  kernel: 0,
  db: 1,
  access: 2,
  pod: 2,
  step: 3,
  recovery: 4,
  execution: 4,
  worker: 6,
  leader: 6,
  http: 6,
  client: 7,
  config: 8,
  fleet: 9,
  cli: 10,
  main: 10,
  index: 10,
  testing: 10,
}

const ENTRIES = ['main.ts', 'cli.ts', 'index.ts', 'client.ts', 'testing.ts']
/** Loaded by path, not by import. */
const THREADS = /\.thread\.ts$/

const LINES_MAX = 250
/** Longer, and still of one purpose; the reason is why. */
const LONG: Record<string, string> = {
  'recovery/recovery.sql.ts': 'every statement of recovery on one page',
  'config.ts': 'the table of all settings, and what contradicts what',
  'http/specs/fleet.ts': 'the table of all endpoints of the door',
  'step/step.schema.ts': 'every shape of a step, once',
  'worker/work.ts': 'the claim loop is one story',
  'execution/memory.ts': 'what one attempt remembers is one story',
  'worker/run-attempt.ts': 'one attempt, and what its handler gets of it',
  'fleet/start-pod.ts': 'the one place where all parts meet',
}

interface Source {
  path: string
  text: string
  imports: string[]
}

const SRC = 'src'
const sources: Source[] = walk(SRC).map((file) => {
  const text = readFileSync(file, 'utf8')
  const imports = [...text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].map(([, target]) =>
    relative(SRC, normalize(join(dirname(file), target ?? ''))),
  )
  return { path: relative(SRC, file), text, imports }
})

function walk(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    return entry.isDirectory() ? walk(path) : path.endsWith('.ts') ? [path] : []
  })
}

const nameOf = (path: string) => path.split('/')[0]?.replace(/\.ts$/, '') ?? ''

/** Every breach of every rule; empty in a tidy house. */
function breaches(files: Source[]): string[] {
  return [...floors(files), ...statements(files), ...words(files), ...sizes(files), ...orphans(files)]
}

function floors(files: Source[]): string[] {
  return files.flatMap(({ path, imports }) => {
    const from = nameOf(path)
    const floor = FLOORS[from]
    if (floor === undefined)
      return [`${path}: the folder ${from} is on no floor; give it one in test/tidy.test.ts`]
    return imports.flatMap((target) => {
      const to = nameOf(target)
      const below = FLOORS[to]
      if (to === from) return []
      if (below === undefined) return [`${path} imports ${target}, which is on no floor`]
      // cli.ts and the folder cli are one; entries start what is beside them.
      if (floor === 0 ? below === 0 : below < floor) return []
      return [
        `${path} (floor ${floor}) imports ${target} (floor ${below}): a floor looks down, never up or sideways`,
      ]
    })
  })
}

/** SQL lives in *.sql.ts and db/, and every statement carries its name. */
function statements(files: Source[]): string[] {
  return files.flatMap(({ path, text }) => {
    const found = [...text.matchAll(/\b(?:sql|tx)(?:<[^`]*?>)?`([^`]*)/g)]
    if (found.length > 0 && !path.endsWith('.sql.ts') && !path.startsWith('db/'))
      return [`${path} holds SQL: statements are named functions of a *.sql.ts`]
    return [
      ...text.matchAll(
        /(?:=>|return|await)\s*(?:sql|tx)(?:<[^`]*?>)?`\s*((?:with|select|insert|update|delete)\b[^`]{0,60})/gs,
      ),
    ]
      .filter(([, start]) => !/\/\* [a-z_]+\.[a-z_]+ \*\//.test(start ?? ''))
      .map(([, start]) => `${path}: a statement without its name: ${(start ?? '').trim().slice(0, 50)}`)
  })
}

const FORBIDDEN: { pattern: RegExp; allowed: string[]; why: string }[] = [
  {
    pattern: /process\.env/,
    allowed: ['main.ts', 'cli.ts', 'db/local/binaries.ts'],
    why: 'settings come from config.ts; only the entries hand it the environment',
  },
  {
    pattern: /Date\.now\(/,
    allowed: ['db/local/lock.ts'],
    why: "no pod's clock decides anything: ask fleet_q.clock(), or performance.now() for a span",
  },
  {
    pattern: /\.reserve\(/,
    allowed: [],
    why: 'a reserved connection whose backend dies takes the process with it',
  },
  {
    pattern: /\.unsafe\(/,
    allowed: ['db/migrate.ts', 'db/local/ask.ts', 'db/local/cluster.ts'],
    why: 'SQL is never put together from text',
  },
  {
    pattern: /\barm\(/,
    allowed: ['kernel/failpoint.ts'],
    why: 'failpoints are armed by tests alone: nothing of the product reaches them',
  },
  { pattern: /export default/, allowed: [], why: 'what is exported has one name' },
  { pattern: /\bTODO\b|\bFIXME\b|\bXXX\b/, allowed: [], why: 'zero debt: do it now, or open an issue' },
  {
    pattern: /pg_(try_)?advisory/,
    allowed: [],
    why: 'not every engine that speaks Postgres has advisory locks',
  },
]

function words(files: Source[]): string[] {
  return files.flatMap(({ path, text }) => {
    const code = text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/\/\/.*$/gm, '')
    return FORBIDDEN.filter(({ pattern, allowed }) => pattern.test(code) && !allowed.includes(path)).map(
      ({ pattern, why }) => `${path} holds ${String(pattern)}: ${why}`,
    )
  })
}

const sizes = (files: Source[]) =>
  files
    .map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }))
    .filter(({ path, lines }) => lines > LINES_MAX && !(path in LONG))
    .map(
      ({ path, lines }) =>
        `${path} has ${lines} lines: does it still have one purpose? If so, say why in test/tidy.test.ts`,
    )

function orphans(files: Source[]): string[] {
  const byPath = new Map(files.map((file) => [file.path, file]))
  const seen = new Set<string>()
  const visit = (path: string) => {
    if (seen.has(path)) return
    seen.add(path)
    for (const target of byPath.get(path)?.imports ?? []) visit(target)
  }
  for (const file of files) if (ENTRIES.includes(file.path) || THREADS.test(file.path)) visit(file.path)
  return files.filter(({ path }) => !seen.has(path)).map(({ path }) => `${path} is imported by nothing`)
}

test('floors, statements, words, sizes: the house is tidy', () => {
  assert.deepEqual(breaches(sources), [])
})

test('every exception to a rule is still needed', () => {
  const long = new Set(
    sources.filter(({ text }) => text.split('\n').length - 1 > LINES_MAX).map(({ path }) => path),
  )
  assert.deepEqual(
    Object.keys(LONG).filter((path) => !long.has(path)),
    [],
  )
})

test('the rules can fail: an upward import, a nameless statement, an orphan and a pod that asks its own clock are named', () => {
  const bad: Source[] = [
    { path: 'main.ts', text: '', imports: ['step/a.sql.ts'] },
    {
      path: 'step/a.sql.ts',
      text: 'export const x = (sql: Sql) => sql`\n  select 1`',
      imports: ['http/b.ts'],
    },
    { path: 'http/b.ts', text: 'const t = Date.now()', imports: ['worker/c.ts'] },
    { path: 'worker/c.ts', text: '', imports: [] },
    { path: 'pod/lonely.ts', text: '', imports: [] },
  ]
  const found = breaches(bad).join('\n')
  for (const word of ['looks down', 'without its name', 'imported by nothing', 'fleet_q.clock()', 'sideways'])
    assert.match(found, new RegExp(word))
})
