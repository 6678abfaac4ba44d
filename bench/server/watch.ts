import { readFileSync, readdirSync } from 'node:fs'
import type { Server } from './start.ts'

/** What a run cost the server. */
export interface Cost {
  walBytes: number
  /** Seconds of CPU of all server processes; undefined where the server runs on another machine. */
  cpuSeconds: number | undefined
  statements: number
  transactions: number
}

const TICKS_PER_SECOND = 100

/** Between now and the call of what it answers with. */
export async function watchCost(server: Server, database: string): Promise<() => Promise<Cost>> {
  const before = await look(server, database)
  return async () => {
    const after = await look(server, database)
    return {
      walBytes: after.walBytes - before.walBytes,
      cpuSeconds:
        after.cpuSeconds === undefined || before.cpuSeconds === undefined
          ? undefined
          : after.cpuSeconds - before.cpuSeconds,
      statements: after.statements - before.statements,
      transactions: after.transactions - before.transactions,
    }
  }
}

async function look({ admin }: Server, database: string): Promise<Cost> {
  const cpuSeconds = serverCpu(await postmasterOf(admin))
  const [row] = await admin<{ wal: number; statements: number; transactions: number }[]>`
    select (pg_current_wal_insert_lsn() - '0/0')::float8 as wal,
      -- What foreign keys ask at the end of a transaction is counted with the statements, and nobody sent it.
      coalesce((
        select sum(calls) from pg_stat_statements
        where dbid = d.oid and query !~ '^SELECT .* FROM ONLY .* FOR KEY SHARE OF x$'), 0)::float8 as statements,
      (select (xact_commit + xact_rollback)::float8 from pg_stat_database where datid = d.oid) as transactions
    from pg_database as d where datname = ${database}`
  return {
    walBytes: row?.wal ?? 0,
    cpuSeconds,
    statements: row?.statements ?? 0,
    transactions: row?.transactions ?? 0,
  }
}

/** The server's own process, if it is one of this machine. */
export async function postmasterOf(admin: Server['admin']): Promise<number | undefined> {
  const [row] = await admin<{ pid: number }[]>`select pg_backend_pid() as pid`
  const stat = row && statOf(row.pid)
  return stat?.name === 'postgres' ? stat.parent : undefined
}

/** The postmaster reaps what ends: its own figure holds the CPU of backends that are gone. */
export function serverCpu(postmaster: number | undefined): number | undefined {
  const own = postmaster === undefined ? undefined : statOf(postmaster)
  if (!own) return undefined
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => statOf(Number(name)))
    .filter((stat) => stat?.parent === postmaster)
  const ticks = children.reduce((sum, stat) => sum + (stat?.ownTicks ?? 0), own.ownTicks + own.reapedTicks)
  return ticks / TICKS_PER_SECOND
}

interface Stat {
  name: string
  parent: number
  ownTicks: number
  reapedTicks: number
}

function statOf(pid: number): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const end = text.lastIndexOf(')')
    const fields = text
      .slice(end + 2)
      .split(' ')
      .map(Number)
    const at = (i: number) => fields[i] ?? 0
    return {
      name: text.slice(text.indexOf('(') + 1, end),
      parent: at(1),
      ownTicks: at(11) + at(12),
      reapedTicks: at(13) + at(14),
    }
  } catch {
    return undefined
  }
}

/** Seconds of CPU of one process. */
export const processCpu = (pid: number) => (statOf(pid)?.ownTicks ?? 0) / TICKS_PER_SECOND

/** Resident memory of one process in megabytes. */
export function processMegabytes(pid: number): number {
  const line = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(line?.[1] ?? 0) / 1024
}
