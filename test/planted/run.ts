import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startTestServer } from '../support/server.ts'
import { BUGS, GAPS, type Bug } from './bugs.ts'
import { runLayer, type Verdict } from './layer.ts'

/**
 * npm run test:planted: is the net tight? Each bug is planted into a copy of the product, and the layers that ought to
 * catch it are run until one does. A layer has to pass without a bug first: what fails anyway catches nothing. Words
 * name some of the bugs.
 */

const ROOT = join(import.meta.dirname, '../..')
const PARTS = ['src', 'test', 'sql', 'examples', 'package.json', 'tsconfig.json', 'openapi.json']

const words = process.argv.slice(2)
const chosen = BUGS.filter(({ what }) => words.length === 0 || words.some((word) => what.includes(word)))
if (chosen.length === 0) throw new Error(`no bug is called ${words.join(' or ')}`)

const folder = mkdtempSync(join(tmpdir(), 'fleet-q-planted-'))
const copy = join(folder, 'fleet-q')
// Of its own: tests that are killed leave their databases behind.
const server = await startTestServer()
const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => stop.abort(new Error('asked to stop')))
const known = new Map<string, Verdict>()
const startedAt = performance.now()
const secondsSince = (from: number) => `${((performance.now() - from) / 1000).toFixed(0)} s`
const print = (line: string) => process.stdout.write(`${line}\n`)

/** Where nothing is planted. Asked once of each layer. */
async function withoutBug(layer: string): Promise<Verdict> {
  const verdict = known.get(layer) ?? (await runLayer(copy, layer, server.url, stop.signal))
  if (!known.has(layer) && !verdict.passed)
    print(`UNSOUND  ${layer} fails without a bug: ${verdict.test} (${verdict.why})`)
  known.set(layer, verdict)
  return verdict
}

/** Puts the mistake in, and answers what takes it out again. */
function plant({ what, changes }: Bug): () => void {
  const before = new Map(changes.map(({ file }) => [file, readFileSync(join(copy, file), 'utf8')]))
  for (const { file, from, to } of changes) {
    const text = readFileSync(join(copy, file), 'utf8')
    if (text.split(from).length !== 2)
      throw new Error(`"${what}" cannot be planted: what it replaces is not there once in ${file}`)
    writeFileSync(
      join(copy, file),
      text.replace(from, () => to),
    )
  }
  return () => {
    for (const [file, text] of before) writeFileSync(join(copy, file), text)
  }
}

/** Whether a layer that is sound failed, and which. */
async function isCaught(bug: Bug): Promise<boolean> {
  const from = performance.now()
  for (const layer of bug.layers) {
    if (!(await withoutBug(layer)).passed) continue
    const takeOut = plant(bug)
    const verdict = await runLayer(copy, layer, server.url, stop.signal)
    takeOut()
    if (verdict.passed) continue
    print(`caught   ${bug.what}\n         by ${layer.split(': ')[0]}: ${verdict.test}`)
    print(`         ${verdict.why} (${secondsSince(from)})`)
    return true
  }
  print(`ESCAPED  ${bug.what} (${bug.layers.join(', ')}; ${secondsSince(from)})`)
  return false
}

let caught = 0
try {
  mkdirSync(copy)
  for (const part of PARTS) cpSync(join(ROOT, part), join(copy, part), { recursive: true })
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'))
  for (const bug of chosen) if (await isCaught(bug)) caught++
} finally {
  await server.stop()
  rmSync(folder, { recursive: true, force: true })
}
const sound = [...known.values()].filter(({ passed }) => passed).length
print(`\n${sound} of ${known.size} layers pass where nothing is planted`)
for (const { what, why } of GAPS) print(`not planted: ${what}: ${why}`)
print(`${caught} of ${chosen.length} planted bugs were caught, in ${secondsSince(startedAt)}`)
process.exit(caught === chosen.length ? 0 : 1)
