import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BUGS, type Bug } from './bugs.ts'

/**
 * npm run test:planted: is the net tight? Each bug is planted into a copy of the product, and the layers that ought to
 * catch it are run until one does. Words name some of them.
 */

const ROOT = join(import.meta.dirname, '../..')
const PARTS = ['src', 'test', 'sql', 'examples', 'package.json', 'tsconfig.json', 'openapi.json']
const LAYER_LIMIT_MS = 600_000

const words = process.argv.slice(2)
const chosen = BUGS.filter(({ what }) => words.length === 0 || words.some((word) => what.includes(word)))

function plant({ file, from, to, what }: Bug, folder: string) {
  const path = join(folder, file)
  const text = readFileSync(path, 'utf8')
  if (text.split(from).length !== 2)
    throw new Error(`"${what}" cannot be planted: what it replaces is not there once in ${file}`)
  writeFileSync(
    path,
    text.replace(from, () => to),
  )
}

/** The layer that failed, and the first test of it that did. */
function catchBug(bug: Bug): { layer: string; test: string } | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-q-planted-'))
  try {
    for (const part of PARTS) cpSync(join(ROOT, part), join(folder, part), { recursive: true })
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
    plant(bug, folder)
    for (const layer of bug.layers) {
      const { status, stdout } = spawnSync(process.execPath, ['--import', 'tsx', 'test/run.ts', layer], {
        cwd: folder,
        encoding: 'utf8',
        timeout: LAYER_LIMIT_MS,
        maxBuffer: 256 * 1024 * 1024,
      })
      if (status !== 0) return { layer, test: /^✖ (.*?) \(\d/m.exec(stdout)?.[1] ?? 'it did not end' }
    }
    return undefined
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

let caught = 0
for (const bug of chosen) {
  const startedAt = performance.now()
  const found = catchBug(bug)
  if (found) caught++
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(0)
  process.stdout.write(
    found
      ? `caught   ${bug.what}\n         by ${found.layer}: ${found.test} (${seconds} s)\n`
      : `ESCAPED  ${bug.what} (${bug.layers.join(', ')}; ${seconds} s)\n`,
  )
}
process.stdout.write(`\n${caught} of ${chosen.length} planted bugs were caught\n`)
process.exit(caught === chosen.length ? 0 : 1)
