import { readdirSync, readFileSync } from 'node:fs'
import type { World } from './world.ts'

export interface Sample {
  /** Since the load began. */
  seconds: number
  accepted: number
  settled: number
  pods: { n: number; pid: number; rssMb: number; fds: number; threads: number }[]
  connections: number
  tablesMb: number
  indexesMb: number
  deadRows: number
  /** Counted: what the server knows of its tables is forgotten when it crashes. */
  steps: number
}

const PAGE_BYTES = 4096

/** From outside of the pods; undefined while the server is away. */
export async function takeSample(
  world: World,
  seconds: number,
  accepted: number,
): Promise<Sample | undefined> {
  const [row] = await world.sql<{ settled: number; steps: number; connections: number }[]>`
    select (select coalesce(sum(cardinality(step_ids)), 0)::int from chaos.ended) as settled,
      (select count(*)::int from fleet_q.steps) as steps,
      (
        select count(*)::int from pg_stat_activity
        where datname = current_database() and application_name like 'fleet-q %'
      ) as connections`.catch(() => [])
  const tables = await world.sql<{ table: number; index: number; dead: number }[]>`
    select pg_table_size(relid)::float8 as table, pg_indexes_size(relid)::float8 as index,
      n_dead_tup::int as dead
    from pg_stat_user_tables where schemaname = 'fleet_q'`.catch(() => [])
  if (!row || tables.length === 0) return undefined
  const mb = (bytes: number) => Math.round(bytes / 1e5) / 10
  const sum = (of: 'table' | 'index' | 'dead') => tables.reduce((total, each) => total + each[of], 0)
  return {
    seconds: Math.round(seconds),
    accepted,
    ...row,
    pods: world.slots.flatMap(({ n, pod }) => {
      const seen = pod && ofProcess(pod.pid)
      return seen ? [{ n, pid: pod.pid, ...seen }] : []
    }),
    tablesMb: mb(sum('table')),
    indexesMb: mb(sum('index')),
    deadRows: sum('dead'),
  }
}

function ofProcess(pid: number) {
  try {
    const pages = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1])
    return {
      rssMb: Math.round((pages * PAGE_BYTES) / 1e6),
      fds: readdirSync(`/proc/${pid}/fd`).length,
      threads: readdirSync(`/proc/${pid}/task`).length,
    }
  } catch {
    // It ended between the look for it and the look at it.
    return undefined
  }
}

export interface Finding {
  what: string
  says: string
  holds: boolean
}

/** Below this a growth is what a collector leaves lying, whatever slope it has in a run of minutes. */
const NOISE_MB = 15
const SLOPE_MB_AN_HOUR = 30
const FDS_MORE = 4
const CONNECTIONS_MORE = 6
/** Vacuum comes when it comes: a table that is worked on swings by this much. */
const TABLES_TIMES = 1.5
const TABLES_MORE_MB = 10

/** Are they flat after the warm-up? A third of what is left is held against its last third. */
export function judge(samples: Sample[], spared: number[]): Finding[] {
  const warm = samples.slice(Math.floor(samples.length / 4))
  const early = warm.slice(0, Math.ceil(warm.length / 3))
  const late = warm.slice(-early.length)
  const findings: Finding[] = []
  const flat = (what: string, unit: string, of: (sample: Sample) => number | undefined, most: number) => {
    const [from, to] = [median(early, of), median(late, of)]
    findings.push({
      what,
      says: `${from} ${unit} early, ${to} late, bound ${most.toFixed(0)}`,
      holds: to <= most,
    })
  }
  for (const n of spared) {
    const mine = (sample: Sample) => sample.pods.find((pod) => pod.n === n)
    const pids = new Set(samples.flatMap((sample) => mine(sample)?.pid ?? []))
    findings.push({ what: `pod ${n}`, says: `${pids.size} process in all`, holds: pids.size === 1 })
    const hours = ((warm.at(-1)?.seconds ?? 0) - (warm[0]?.seconds ?? 0)) / 3600
    const slope = slopeOf(warm, (sample) => mine(sample)?.rssMb)
    findings.push({
      what: `pod ${n}, memory`,
      says: `${median(early, (sample) => mine(sample)?.rssMb)} MB early, ${median(late, (sample) => mine(sample)?.rssMb)} late: ${slope.toFixed(0)} MB an hour over ${(hours * 60).toFixed(0)} minutes, bound ${SLOPE_MB_AN_HOUR} (or ${NOISE_MB} MB in all)`,
      holds: slope <= SLOPE_MB_AN_HOUR || slope * hours <= NOISE_MB,
    })
    const fds = (sample: Sample) => mine(sample)?.fds
    flat(`pod ${n}, handles`, 'open', fds, median(early, fds) + FDS_MORE)
    const threads = (sample: Sample) => mine(sample)?.threads
    flat(`pod ${n}, threads`, '', threads, median(early, threads) + 1)
  }
  const connections = (sample: Sample) => sample.connections
  flat('connections', 'to the server', connections, median(early, connections) + CONNECTIONS_MORE)
  const size = (sample: Sample) => sample.tablesMb + sample.indexesMb
  flat('tables and indexes', 'MB', size, median(early, size) * TABLES_TIMES + TABLES_MORE_MB)
  const rows = (sample: Sample) => sample.steps
  flat('steps kept', 'rows', rows, Math.max(...early.map(rows)) * TABLES_TIMES)
  return findings
}

function median(samples: Sample[], of: (sample: Sample) => number | undefined): number {
  const sorted = samples.flatMap((sample) => of(sample) ?? []).toSorted((a, b) => a - b)
  return Math.round(sorted[sorted.length >> 1] ?? 0)
}

/** Least squares, for each hour. */
function slopeOf(samples: Sample[], of: (sample: Sample) => number | undefined): number {
  const points = samples.flatMap((sample) => {
    const y = of(sample)
    return y === undefined ? [] : [{ x: sample.seconds / 3600, y }]
  })
  const mean = (values: number[]) => values.reduce((sum, each) => sum + each, 0) / values.length
  const [x, y] = [mean(points.map((each) => each.x)), mean(points.map((each) => each.y))]
  const over = points.reduce((sum, each) => sum + (each.x - x) * (each.y - y), 0)
  const under = points.reduce((sum, each) => sum + (each.x - x) ** 2, 0)
  return under === 0 ? 0 : over / under
}
