import { readFileSync } from 'node:fs'
import postgres from 'postgres'

/** The most of each that was seen. */
export interface Seen {
  /** To the server, of all but those who look. */
  connections: number
  /** To PgBouncer. */
  clients: number
  /** Of those, waiting for a connection to the server; and the longest that one of them had waited. */
  waiting: number
  waitMs: number
  /** Since the last heartbeat of a pod that does live. */
  silentSeconds: number
  memoryMb: number
}

const EVERY_MS = 250
const PAGE_KB = 4

interface Pool {
  cl_active: string
  cl_waiting: string
  maxwait: string
  maxwait_us: string
}

/** Looks several times a second, from outside of the pods. */
export function watchFleet(
  sql: postgres.Sql,
  pgbouncer: string,
  living: () => { pids: number[]; pods: string[] },
) {
  // Its console speaks the simple protocol only, and knows no types to ask for.
  const console = postgres(pgbouncer, { max: 1, fetch_types: false, onnotice: () => {} })
  const seen: Seen = { connections: 0, clients: 0, waiting: 0, waitMs: 0, silentSeconds: 0, memoryMb: 0 }
  let stopped = false

  async function look() {
    const { pids, pods } = living()
    const [row] = await sql<{ connections: number; silent: number }[]>`
      select (
          select count(*)::int from pg_stat_activity
          where backend_type = 'client backend' and datname = current_database() and application_name <> 'observer'
        ) as connections,
        (
          select coalesce(max(extract(epoch from now() - beat_at)), 0)::float8 from fleet_q.pods
          where public_id = any (${pods})
        ) as silent`.catch(() => [])
    const pools = await console.unsafe<(Pool & { database: string })[]>('show pools').simple()
    seen.connections = Math.max(seen.connections, row?.connections ?? 0)
    seen.silentSeconds = Math.max(seen.silentSeconds, row?.silent ?? 0)
    for (const pool of pools.filter(({ database }) => database !== 'pgbouncer')) {
      seen.clients = Math.max(seen.clients, Number(pool.cl_active) + Number(pool.cl_waiting))
      seen.waiting = Math.max(seen.waiting, Number(pool.cl_waiting))
      seen.waitMs = Math.max(seen.waitMs, Number(pool.maxwait) * 1000 + Number(pool.maxwait_us) / 1000)
    }
    const memoryMb = pids.reduce((sum, pid) => sum + residentMb(pid), 0)
    seen.memoryMb = Math.max(seen.memoryMb, Math.round(memoryMb))
  }

  const watching = (async () => {
    while (!stopped) {
      await look()
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS))
    }
  })()

  return {
    async stop(): Promise<Seen> {
      stopped = true
      await watching
      await console.end({ timeout: 1 })
      return seen
    },
  }
}

/** Of one process; nothing of one that has ended. */
function residentMb(pid: number): number {
  try {
    return (Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * PAGE_KB) / 1024
  } catch {
    return 0
  }
}
