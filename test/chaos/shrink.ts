import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Fault, Plan } from './plan.ts'
import { smallest } from './smallest.ts'

/**
 * Takes faults out of a plan for as long as its run still fails. Real machines are not deterministic: a plan counts as
 * harmless when it passed twice. Undefined: so did the whole plan.
 */
export function shrink(plan: Plan, folder: string, say: (line: string) => void): Plan | undefined {
  const file = join(folder, 'smaller.json')
  const fails = (faults: readonly Fault[]) => {
    writeFileSync(file, `${JSON.stringify({ ...plan, faults }, null, 2)}\n`)
    for (let time = 0; time < 2; time++) {
      const { status } = spawnSync(
        process.execPath,
        ['--import', 'tsx', join(import.meta.dirname, 'run.ts'), '--replay', file],
        { stdio: 'ignore' },
      )
      if (status === 0) continue
      say(`fails with ${nameFaults(faults)}`)
      return true
    }
    say(`passed twice with ${nameFaults(faults)}`)
    return false
  }

  if (!fails(plan.faults)) return undefined
  const small = { ...plan, faults: [...smallest(plan.faults, fails)] }
  writeFileSync(join(folder, 'smallest.json'), `${JSON.stringify(small, null, 2)}\n`)
  return small
}

export const nameFaults = (faults: readonly Fault[]) =>
  faults.length === 0 ? 'no fault at all' : faults.map(({ n, kind }) => `${n} ${kind}`).join(', ')
