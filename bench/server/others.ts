import { existsSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import type { Server } from './start.ts'
import { postmasterOf, serverCpu } from './watch.ts'

/** A machine is seldom alone: what ran beside a run tells how much to trust it. */

const TICKS_PER_SECOND = 100

/** The share of all cores between now and the call of what it answers with; 0 where it cannot be told. */
export async function watchOthers({ admin }: Server): Promise<() => number> {
  if (!existsSync('/proc/stat')) return () => 0
  const postmaster = await postmasterOf(admin)
  const look = () => ({
    at: performance.now(),
    others: machineCpu() - ownCpu() - (serverCpu(postmaster) ?? 0),
  })
  const before = look()
  return () => {
    const after = look()
    const seconds = ((after.at - before.at) / 1000) * cpus().length
    return Math.max(0, (after.others - before.others) / seconds)
  }
}

/** Seconds that were busy or stolen, of all cores. */
function machineCpu(): number {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n', 1)
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = line
    .split(/\s+/)
    .slice(1)
    .map(Number)
  return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND
}

/** Of this process and of its children that have ended. */
function ownCpu(): number {
  const fields = readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ').map(Number) ?? []
  return [11, 12, 13, 14].reduce((sum, at) => sum + (fields[at] ?? 0), 0) / TICKS_PER_SECOND
}
