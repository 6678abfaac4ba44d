import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { endNow } from '../support/cleanup.ts'
import { findPgBouncer } from '../support/pgbouncer.ts'
import { HELP, readArguments } from './arguments.ts'
import { mayMount } from './disk.ts'
import { findFakeTime } from './faults/come-back.ts'
import { KINDS, type Kind } from './faults/kinds.ts'
import { makePlan, type Plan } from './plan.ts'
import { howToReplay, inWords, type Report } from './report.ts'
import { runPlan } from './run-plan.ts'
import { nameFaults, shrink } from './shrink.ts'

/** npm run test:chaos: see arguments.ts. */

const wish = readArguments(process.argv.slice(2))
if (!wish) {
  process.stdout.write(HELP)
  process.exit(0)
}

/** Faults that this machine cannot make: said, not skipped in silence. */
function impossible(): Kind[] {
  const without: Kind[] = []
  if (!mayMount()) without.push('disk full')
  if (!findPgBouncer()) without.push('kill PgBouncer')
  if (!findFakeTime()) without.push('clock shifted')
  return without
}

const without = impossible()
const plan: Plan = wish.replay
  ? (JSON.parse(readFileSync(wish.replay, 'utf8')) as Plan)
  : makePlan({ ...wish, without })
// A replay may be of a part of the plan: the whole one, and its report, stay where they are.
const folder = join(
  import.meta.dirname,
  '../../.cache/chaos',
  `${plan.seed}${wish.shrink ? '-shrink' : wish.replay ? '-replay' : ''}`,
)
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })
const planFile = join(folder, 'plan.json')
writeFileSync(planFile, `${JSON.stringify(plan, null, 2)}\n`)

const startedAt = performance.now()
const say = (line: string) =>
  process.stdout.write(`${((performance.now() - startedAt) / 1000).toFixed(1).padStart(7)} s  ${line}\n`)

say(
  `seed ${plan.seed}: ${plan.steps} steps, ${plan.faults.length} faults, ${plan.pods} pods; plan in ${planFile}`,
)
for (const kind of without) say(`not looked at on this machine: ${kind} (${KINDS[kind].about})`)

if (wish.shrink) {
  const small = shrink(plan, folder, say)
  if (small)
    say(
      `the smallest plan that fails has ${small.faults.length} of ${plan.faults.length} faults: ${nameFaults(small.faults)}; ${join(folder, 'smallest.json')}`,
    )
  else say('the whole plan passed twice: there is nothing to shrink')
  process.exit(small ? 1 : 0)
}

let report: Report
try {
  report = await runPlan(plan, folder, say)
} catch (error) {
  process.stdout.write(howToReplay(plan))
  throw error
} finally {
  await endNow()
}
writeFileSync(join(folder, 'report.json'), `${JSON.stringify(report, null, 2)}\n`)
process.stdout.write(inWords(report))
if (report.broken > 0) process.stdout.write(howToReplay(plan))
process.exit(report.broken > 0 ? 1 : 0)
