import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { demoSteps } from '../../src/worker/builtin/demo.ts'
import { testDatabase } from '../support/database.ts'
import { startTestPod } from '../support/pods.ts'
import { execute, printedBy } from './page.ts'
import { hasCurl, NO_CURL, NO_PYTHON, pythonWithHttpx } from './programs.ts'
import { Ids, sameText } from './shape.ts'

/** Every example runs, and prints what stands at its end. */

const FOLDER = 'examples'
const files = readdirSync(FOLDER)
  .filter((name) => /^\d/.test(name))
  .toSorted()
const programs = files
  .map((name) => `${FOLDER}/${name}`)
  .map((path) => (path.endsWith('-cpu-thread') ? `${path}/run.ts` : path))
  .filter((path) => path.endsWith('.ts') && !path.endsWith('.test.ts'))

/** The comment at the end: what it prints. */
function promised(path: string): string {
  const text = readFileSync(path, 'utf8')
  const said = /\/\* It prints:\n([\s\S]*?)\*\/\s*$/.exec(text)?.[1]
  const hashed = /# It prints:\n((?:#.*\n)+)$/.exec(text)?.[1]?.replaceAll(/^# ?/gm, '')
  const lines = said ?? hashed
  assert.ok(lines, `${path} does not end with a comment "It prints:"`)
  return lines
}

for (const path of programs)
  test(`${path} prints what it says`, async () => {
    const database = await testDatabase()
    process.env['DATABASE_URL'] = database.url
    // In this process: what a program of its own would spend a second on, loading the library, is done already.
    const printed = await printedBy(() => import(pathToFileURL(path).href))
    sameText(promised(path), printed, new Ids())
  })

test('an example as a process of its own ends by itself', async () => {
  const [hello = ''] = programs
  const database = await testDatabase()
  const printed = await execute(process.execPath, ['--import', 'tsx', hello], { DATABASE_URL: database.url })
  sameText(promised(hello), printed, new Ids())
})

for (const name of files.filter((each) => each.endsWith('.test.ts')))
  test(`the tests of ${FOLDER}/${name} pass, on a Postgres of their own`, async () => {
    const path = `${FOLDER}/${name}`
    const tests = [...readFileSync(path, 'utf8').matchAll(/^test\(/gm)].length
    const printed = await execute(process.execPath, ['--import', 'tsx', '--test', path], {})
    assert.ok(printed.includes(`pass ${tests}\n`), printed)
  })

const clients = [
  { name: '12-client.py', command: pythonWithHttpx, missing: NO_PYTHON },
  { name: '13-client.sh', command: hasCurl ? 'bash' : undefined, missing: NO_CURL },
]
for (const { name, command, missing } of clients) {
  const path = `${FOLDER}/${name}`
  if (command === undefined) test(`${path}: NOT RUN, ${missing}`, (t) => t.diagnostic(missing))
  else
    test(`${path} prints what it says`, async () => {
      const database = await testDatabase()
      const pod = await startTestPod(
        database.url,
        demoSteps.map(({ definition }) => definition).filter(inPod),
      )
      sameText(promised(path), await execute(command, [path, pod.url], {}), new Ids())
    })
}

/** A step in a thread wants the place it was loaded from; these examples need none. */
const inPod = ({ isolation }: { isolation: string }) => isolation === 'none'

test('the list of examples names each of them', () => {
  const readme = readFileSync(`${FOLDER}/README.md`, 'utf8')
  const named = [...readme.matchAll(/^\| \[([^\]]+)\]/gm)].map(([, name]) => name)
  assert.deepEqual(named, files)
})
