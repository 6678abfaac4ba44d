import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Fault, Plan } from './plan.ts'

/**
 * Takes faults out by halves, quarters and so on, for as long as the run still fails (ddmin). Real machines are not
 * deterministic: a plan counts as harmless when it passed twice.
 */
export function shrink(plan: Plan, folder: string, say: (line: string) => void): Plan {
  const file = join(folder, 'smaller.json')
  const fails = (faults: Fault[]) => {
    writeFileSync(file, `${JSON.stringify({ ...plan, faults }, null, 2)}\n`)
    for (let time = 0; time < 2; time++) {
      const { status } = spawnSync(
        process.execPath,
        ['--import', 'tsx', join(import.meta.dirname, 'run.ts'), '--replay', file],
        { stdio: 'ignore' },
      )
      if (status !== 0) return true
    }
    return false
  }

  let faults = plan.faults
  for (let parts = 2; faults.length > 1;) {
    const size = Math.ceil(faults.length / parts)
    const without = Array.from({ length: parts }, (_, i) =>
      faults.filter((_, at) => Math.floor(at / size) !== i),
    )
    const smaller = without.find((rest) => rest.length < faults.length && fails(rest))
    if (smaller) {
      faults = smaller
      parts = Math.max(2, parts - 1)
      say(`still fails with ${faults.length} faults`)
    } else if (size === 1) break
    else parts = Math.min(faults.length, parts * 2)
  }
  const small = { ...plan, faults }
  writeFileSync(join(folder, 'smallest.json'), `${JSON.stringify(small, null, 2)}\n`)
  return small
}
