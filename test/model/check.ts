import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * npm run test:model: every order in which two pods, two leaders, an operator and death can meet over one step, by
 * exhaustive search of model/step.pml; and the same of weakened rules, each of which must be found wanting.
 */

const MODEL = join(import.meta.dirname, '../../model/step.pml')

interface Variant {
  what: string
  flags: string[]
  /** What the search is to find: words of the assertion that must fail; nothing for the rules as they are. */
  fails?: RegExp
}

const VARIANTS: Variant[] = [
  { what: 'the rules as they are', flags: [] },
  { what: 'no fence: a late answer is accepted', flags: ['-DFENCE=0'], fails: /stands/ },
  { what: 'a fence by owner: any claim of the pod will do', flags: ['-DFENCE=1'], fails: /stands/ },
  { what: 'recovery by id, without a lock', flags: ['-DRECOVERY=0'], fails: /ready/ },
  {
    what: 'recovery in one statement, with the snapshot from before its lock',
    flags: ['-DRECOVERY=1'],
    fails: /ready/,
  },
  { what: 'a heartbeat revives a pod that was declared dead', flags: ['-DREVIVE=1'], fails: /outcome/ },
]

if (spawnSync('spin', ['-V']).status !== 0 || spawnSync('gcc', ['--version']).status !== 0) {
  process.stderr.write(
    'The model is checked by spin, which needs gcc: on Debian `apt-get install spin gcc`.\n',
  )
  process.exit(1)
}

const folder = mkdtempSync(join(tmpdir(), 'fleet-q-model-'))
const run = (command: string, args: string[]) => {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: folder, encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${stdout}${stderr}`)
  return stdout
}

/** Depth first, and every state: -E leaves dead ends to the model's own last promise. */
function search({ flags }: Variant): { violation: string | undefined; states: number; complete: boolean } {
  run('spin', ['-a', ...flags, MODEL])
  run('gcc', ['-w', '-O2', '-DSAFETY', '-o', 'pan', 'pan.c'])
  const printed = run('./pan', ['-E', '-m1000000'])
  return {
    violation: /assertion violated (.*) \(at depth/.exec(printed)?.[1],
    states: Number(/(\d+) states, stored/.exec(printed)?.[1] ?? 0),
    complete: !printed.includes('Search not completed') && !printed.includes('max search depth too small'),
  }
}

let wrong = 0
try {
  for (const variant of VARIANTS) {
    const { violation, states, complete } = search(variant)
    const isWell = variant.fails
      ? violation !== undefined && variant.fails.test(violation)
      : !violation && complete
    if (!isWell) wrong++
    const found = violation
      ? `refuted by ${violation}`
      : `holds in all of ${states.toLocaleString('en')} states`
    process.stdout.write(`${isWell ? 'well ' : 'WRONG'}  ${variant.what}: ${found}\n`)
    if (violation && !variant.fails)
      process.stdout.write(`${run('spin', ['-t', '-p', MODEL]).slice(-6000)}\n`)
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
const lines = readFileSync(MODEL, 'utf8').split('\n').length
process.stdout.write(
  wrong === 0
    ? `\nthe model (${lines} lines) holds, and each of ${VARIANTS.length - 1} weaker ones was refuted\n`
    : `\n${wrong} of ${VARIANTS.length} went otherwise than they should\n`,
)
process.exit(wrong === 0 ? 0 : 1)
