import { setTimeout as sleep } from 'node:timers/promises'
import type { Tally } from '../adapters/adapter.ts'
import { machineNow } from '../process/clock.ts'
import type { Seen } from '../process/calls.ts'
import { withChildren, type Spawned } from '../process/spawn.ts'
import { withFilled } from '../server/copy.ts'
import { watchCost, processCpu, type Cost } from '../server/watch.ts'
import { checkTally, untilSettled } from './settled.ts'
import { NoFigure, type Bench, type Contender } from './row.ts'

export interface Drained {
  /** Jobs a second from the start of the workers to the last final state. */
  rate: number
  /** Jobs a second between the first and the last tenth of the handlers' starts. */
  steady: number
  jobs: number
  ms: number
  cost: Cost
  workerCpuSeconds: number
}

export interface DrainOptions {
  pods: number
  jobs: number
  /** A template with more in it than the jobs that are to be handled. */
  template?: string
  settings?: Record<string, string>
  /** More lies there than these jobs: that every one of them ended cannot be seen from the counts. */
  others?: boolean
}

/** Slow contenders are stopped then: their rate is that of what they have handled. */
const LIMIT_MS = 5000
const MANY_JOBS = 50_000
const LIMIT_MANY_MS = 20_000

export async function runDrain(contender: Contender, bench: Bench, options: DrainOptions): Promise<Drained> {
  const drainIn = (url: string, database: string) =>
    drainDatabase(contender, bench, { ...options, url, database })
  return options.template === undefined
    ? withFilled(bench.copies, contender, options.jobs, drainIn)
    : bench.copies.withCopy(options.template, drainIn)
}

/** Drains what is there. */
export function drainDatabase(
  { adapter, profile }: Contender,
  bench: Bench,
  options: DrainOptions & { url: string; database: string },
): Promise<Drained> {
  const { url, database, pods, jobs, settings = {}, others = false } = options
  return withChildren(
    Array.from({ length: pods }, () => adapter.name),
    async (children) => {
      const inspector = adapter.inspect(url)
      await inspector.settled(jobs)
      const cost = await watchCost(bench.server, database)
      const cpuBefore = cpuOf(children)
      const begun = machineNow()
      const work = { adapter: adapter.name, url, profile, jobs, settings }
      await Promise.all(children.map((child) => child.ask('work', work)))
      const limitMs = jobs >= MANY_JOBS ? LIMIT_MANY_MS : LIMIT_MS
      const full = await untilHandled(children, jobs, begun + limitMs)
      if (full && !others) await untilSettled(inspector, jobs)
      const ms = machineNow() - begun
      const spent = await cost()
      const workerCpuSeconds = cpuOf(children) - cpuBefore
      const tally = full && !others ? await inspector.tally() : undefined
      await inspector.close()
      const seen = await Promise.all(children.map((child) => child.ask('seen', undefined)))
      const all = merge(seen, jobs)
      check(all, tally, adapter.forgets === true)
      return {
        rate: (all.handled / ms) * 1000,
        steady: steadyRate(all.startedAt),
        jobs: all.handled,
        ms,
        cost: spent,
        workerCpuSeconds,
      }
    },
  )
}

const cpuOf = (children: Spawned[]) => children.reduce((sum, { pid }) => sum + processCpu(pid), 0)

/** True when all were handled, false when time was up. */
export async function untilHandled(children: Spawned[], jobs: number, until: number): Promise<boolean> {
  while (machineNow() < until) {
    if (children.reduce((sum, child) => sum + child.handled, 0) >= jobs) return true
    await sleep(2)
  }
  return false
}

interface Merged {
  handled: number
  startedAt: Float64Array
  runs: Uint8Array
}

function merge(seen: Seen[], jobs: number): Merged {
  const startedAt = new Float64Array(jobs)
  const runs = new Uint8Array(jobs)
  for (const one of seen)
    for (let n = 0; n < jobs; n++) {
      runs[n] = (runs[n] ?? 0) + (one.runs[n] ?? 0)
      startedAt[n] = Math.max(startedAt[n] ?? 0, one.startedAt[n] ?? 0)
    }
  return { handled: seen.reduce((sum, { handled }) => sum + handled, 0), startedAt, runs }
}

/** A run that breaks one of these has no figure. */
function check({ runs }: Merged, tally: Tally | undefined, forgets: boolean) {
  const twice = runs.filter((count) => count > 1).length
  if (twice > 0) throw new NoFigure(`${twice} jobs ran more than once, though nothing died`)
  if (!tally) return
  const never = runs.filter((count) => count === 0).length
  if (never > 0) throw new NoFigure(`${never} jobs never ran`)
  checkTally(tally, runs.length, forgets)
}

/** Of moments, between the first and the last tenth of them. */
export function steadyRate(moments: Float64Array): number {
  const times = moments.filter((at) => at > 0).toSorted()
  const from = Math.floor(times.length * 0.1)
  const to = Math.floor(times.length * 0.9)
  const spanMs = (times[to] ?? 0) - (times[from] ?? 0)
  return spanMs > 0 ? ((to - from) / spanMs) * 1000 : 0
}
