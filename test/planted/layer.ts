import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

export type Verdict = { passed: true } | { passed: false; test: string; why: string }

/** Twice what the slowest of them takes on a busy machine. */
const LIMIT_MS = 120_000

const WHY_CHARACTERS = 160

/** Says that the product was broken, and not how it behaves. */
const NONSENSE =
  /syntax error|does not exist|SyntaxError|ReferenceError|is not a function|is ambiguous|must appear in/

/**
 * Runs the tests of a layer in this folder, until the first one fails. A layer is a word for `npm test`, and where it is
 * "file: name", those tests of it whose names begin so. Its tests must not start servers: what still runs is killed.
 */
export async function runLayer(
  folder: string,
  layer: string,
  databaseUrl: string,
  stop: AbortSignal,
): Promise<Verdict> {
  const [word = '', name] = layer.split(': ')
  const scratch = mkdtempSync(join(tmpdir(), 'fleet-q-layer-'))
  const args = ['--import', 'tsx', 'test/run.ts', word, '--test-reporter=./test/planted/tell.js']
  if (name !== undefined) args.push(`--test-name-pattern=^${literal(name)}`)
  const child = spawn(process.execPath, args, {
    cwd: folder,
    // A group of its own, so that pods that its tests have started end with it.
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, TEST_DATABASE_URL: databaseUrl, TMPDIR: scratch },
  })
  const exited = new Promise<number>((resolve) => child.on('exit', (status) => resolve(status ?? 1)))
  const endAll = () => {
    try {
      if (child.pid) process.kill(-child.pid, 'SIGKILL')
    } catch {
      // All of them have ended.
    }
  }
  stop.addEventListener('abort', endAll)
  let tooLong = false
  const limit = setTimeout(() => {
    tooLong = true
    endAll()
  }, LIMIT_MS)
  try {
    const { passed, failure } = await untilFailure(child.stdout)
    stop.throwIfAborted()
    if (failure) return failure
    if (tooLong)
      return { passed: false, test: 'the run itself', why: `it took more than ${LIMIT_MS / 1000} s` }
    const status = await exited
    if (status !== 0 || passed === 0)
      throw new Error(`${layer} ended with ${status}: ${passed} tests passed, and none failed`)
    return { passed: true }
  } finally {
    clearTimeout(limit)
    endAll()
    await exited
    stop.removeEventListener('abort', endAll)
    rmSync(scratch, { recursive: true, force: true })
  }
}

async function untilFailure(output: NodeJS.ReadableStream): Promise<{ passed: number; failure?: Verdict }> {
  let passed = 0
  for await (const line of createInterface({ input: output })) {
    const { name, why } = JSON.parse(line) as { name: string; why?: string }
    if (why === undefined) {
      passed++
      continue
    }
    if (NONSENSE.test(why) || name.endsWith('.test.ts'))
      throw new Error(`this is no mistake but nonsense: ${name}: ${why}`)
    return {
      passed,
      failure: { passed: false, test: name, why: why.replaceAll(/\s+/g, ' ').slice(0, WHY_CHARACTERS) },
    }
  }
  return { passed }
}

const literal = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')
