import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { parseWish, USAGE, type Wish } from './arguments.ts'
import { bench } from './bench.ts'

/** The entry: under a Node that the peers run on, with a server of its own, and an end in any case. */

/** graphile-worker 0.18 and pg-boss 12 need Node 22; the figures are to be those of the image, which has 24. */
const NODE_MAJOR = 24

function major(): number {
  return Number(process.versions.node.split('.')[0])
}

function again(): number {
  const script = join(import.meta.dirname, 'run.ts')
  const { status } = spawnSync(
    'npx',
    ['-y', `node@${NODE_MAJOR}`, '--import', 'tsx', script, ...process.argv.slice(2)],
    { stdio: 'inherit' },
  )
  return status ?? 1
}

function readWish(): Wish | undefined {
  if (process.argv.includes('--help')) {
    console.log(USAGE)
    return undefined
  }
  try {
    return parseWish(process.argv.slice(2))
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error))
    process.exitCode = 2
    return undefined
  }
}

const wish = readWish()
if (wish)
  process.exitCode =
    major() < NODE_MAJOR
      ? again()
      : await bench(wish).catch((error: unknown) => {
          console.error(error instanceof Error ? error.message : String(error))
          return 1
        })
