import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { endNow } from '../support/cleanup.ts'
import type { Kind } from './faults/kinds.ts'
import { DEAD_AFTER_SECONDS } from './keep-pod.ts'
import type { Fault } from './plan.ts'
import { createRandom } from './random.ts'
import { inWords, type Report } from './report.ts'
import { runPlan } from './run-plan.ts'

/**
 * npm run test:kills -- [--kills N] [--seed N]: recovery over many kills, for a percentile that says something. A run
 * of chaos whose only faults are kills: a pod every five seconds, under load of long and short steps, every fourth time
 * the leader, every seventh time two at once. What each held is measured from the kill to its next claim, by what the
 * database wrote down; every invariant is checked as in each run. 200 kills take about
 * 20 minutes; --kills 20, two.
 */

const { values } = parseArgs({
  options: { kills: { type: 'string', default: '200' }, seed: { type: 'string', default: '1' } },
})
const kills = Number(values.kills)
const seed = Number(values.seed)

const PODS = 5
/** Half of what a fleet does here while others use the machine: at its limit, what is recovered waits for its turn too. */
const STEPS_A_MINUTE = 5000
/** From the end of one to the next: enough to be missed, searched for, and started again. */
const REST_MS = [3500, 6000] as const
const THRESHOLDS_MAX = 2
/** Some that are killed hold nothing, and do not count. */
const SPARE = 1.1

const kindOf = (n: number): Kind => (n % 7 === 6 ? 'kill two' : n % 4 === 3 ? 'kill the leader' : 'kill')

const random = createRandom(seed)
const faults = Array.from({ length: Math.ceil(kills * SPARE) }, (_, n): Fault => ({
  n: n + 1,
  kind: kindOf(n),
  // Any moment between two heartbeats.
  restMs: random.between(...REST_MS),
  lastsMs: 0,
  dice: random.next(),
}))
const minutes = faults.reduce((sum, { restMs }) => sum + restMs, 0) / 60_000
const plan = { seed, pods: PODS, steps: Math.round(minutes * STEPS_A_MINUTE), executions: 0, minutes, faults }

const folder = join(import.meta.dirname, '../../.cache/kills', String(seed))
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })
const startedAt = performance.now()
const say = (line: string) =>
  process.stdout.write(`${((performance.now() - startedAt) / 1000).toFixed(1).padStart(7)} s  ${line}\n`)

let report: Report
try {
  report = await runPlan(plan, folder, say)
} finally {
  await endNow()
}
writeFileSync(join(folder, 'report.json'), `${JSON.stringify(report, null, 2)}\n`)

const { p50Ms, p99Ms, maxMs, putBackP99Ms, worst, ...measured } = report.recovery
const inThresholds = (ms: number) => ms / 1000 / DEAD_AFTER_SECONDS
const told = (name: string, ms: number) =>
  `${name.padEnd(20)} ${(ms / 1000).toFixed(2)} s, ${inThresholds(ms).toFixed(2)} x the threshold\n`
process.stdout.write(
  inWords(report) +
    `\n${measured.kills} killed pods held ${measured.steps} steps; threshold ${DEAD_AFTER_SECONDS} s\n` +
    told('p50', p50Ms) +
    told('p99', p99Ms) +
    told('p99, in its lane', putBackP99Ms) +
    told('worst', maxMs) +
    `${' '.repeat(20)} ${worst}\n`,
)
const isSlow = inThresholds(p99Ms) > THRESHOLDS_MAX
if (isSlow) process.stdout.write(`p99 is beyond ${THRESHOLDS_MAX} thresholds\n`)
const isThin = measured.kills < kills
if (isThin)
  process.stdout.write(`only ${measured.kills} of ${kills} killed pods held anything: too few to tell\n`)
process.exit(isSlow || isThin || report.broken > 0 ? 1 : 0)
