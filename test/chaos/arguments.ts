import { parseArgs } from 'node:util'

export interface Arguments {
  seed: number
  minutes: number
  steps: number
  executions: number
  pods: number
  faults: number
  replay: string | undefined
  shrink: boolean
}

export const HELP = `npm run test:chaos -- [--seed N] [--minutes M] [--steps N] [--executions N] [--faults N] [--pods N]
npm run test:chaos -- --replay .cache/chaos/42/plan.json [--shrink]

A fleet of real pods on a real Postgres works through steps while faults happen to it; afterwards a checker compares
what the client was told, what the database wrote down, what handlers wrote in their transactions and what a service
outside was asked to do. Exit code 1: an invariant was broken, and the smallest witness is printed.

  --seed     draws the plan; without it a fresh one is drawn, and printed
  --minutes  over which the steps are submitted (2)
  --steps    how many (10,000 a minute)
  --executions  how many, beside the steps: they sleep, wait, spawn and undo (200 a minute)
  --faults   how many (15 a minute)
  --pods     how many (5)
  --replay   runs a plan that was kept
  --shrink   takes faults out of a plan that fails, by halves, for as long as it still fails
`

export function readArguments(argv: string[]): Arguments | undefined {
  const { values } = parseArgs({
    args: argv,
    options: {
      seed: { type: 'string' },
      minutes: { type: 'string', default: '2' },
      steps: { type: 'string' },
      executions: { type: 'string' },
      faults: { type: 'string' },
      pods: { type: 'string', default: '5' },
      replay: { type: 'string' },
      shrink: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return undefined
  const minutes = Number(values.minutes)
  return {
    seed: values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed),
    minutes,
    steps: Number(values.steps ?? Math.round(minutes * 10_000)),
    executions: Number(values.executions ?? Math.round(minutes * 200)),
    faults: Number(values.faults ?? Math.round(minutes * 15)),
    pods: Number(values.pods),
    replay: values.replay,
    shrink: values.shrink,
  }
}
