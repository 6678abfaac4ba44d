import postgres from 'postgres'
import { until } from '../../support/until.ts'
import type { World } from '../world.ts'
import type { FaultKind } from './fault.ts'

/** What happens to the database server. */

async function stopped(world: World, how: 'fast' | 'immediate' | 'kill') {
  await world.server.stop(how)
  return { what: `stopped Postgres (${how})`, isOutage: true, end: () => world.server.start() }
}

/** In a transaction of its own, which stays open. */
async function held(world: World, statement: string, what: string) {
  const sql = postgres(world.url, {
    max: 1,
    onnotice: () => {},
    connection: { application_name: 'nemesis holds' },
  })
  let release = () => {}
  const released = new Promise<void>((resolve) => (release = resolve))
  const ended = new Promise<void>((holds, fails) => {
    sql
      .begin(async (tx) => {
        await tx.unsafe(statement)
        holds()
        await released
      })
      .catch(fails)
  })
  await ended.catch(() => {})
  return {
    what,
    isOutage: statement.startsWith('lock'),
    async end() {
      release()
      await sql.end({ timeout: 1 }).catch(() => {})
    },
  }
}

export const server = {
  'stop Postgres (fast)': {
    about: 'the server is stopped, clients are sent away, and started again',
    lastsMs: [300, 3000],
    begin: (world) => stopped(world, 'fast'),
  },
  'stop Postgres (immediate)': {
    about: 'the server is stopped without a goodbye, and recovers at its start',
    lastsMs: [300, 3000],
    begin: (world) => stopped(world, 'immediate'),
  },
  'kill Postgres': {
    about: 'the postmaster is killed (SIGKILL)',
    lastsMs: [300, 3000],
    begin: (world) => stopped(world, 'kill'),
  },
  'away for long': {
    about: 'the server is away for more than two thresholds',
    lastsMs: [7000, 9000],
    begin: (world) => stopped(world, 'fast'),
  },
  'terminate backends': {
    about: 'all connections of all pods are ended by the server',
    lastsMs: [0, 0],
    often: 3,
    async begin({ sql }) {
      const [row] = await sql<{ n: number }[]>`
        select count(pg_terminate_backend(pid))::int as n from pg_stat_activity
        where datname = current_database() and application_name like 'fleet-q %'`
      return { what: `terminated ${row?.n ?? 0} backends` }
    },
  },
  'terminate one backend': {
    about: 'the connection that is busy is ended by the server',
    lastsMs: [0, 0],
    often: 3,
    async begin({ sql }, dice) {
      const rows = await sql<{ name: string }[]>`
        select application_name as name from (
          select pid, application_name from pg_stat_activity
          where datname = current_database() and application_name like 'fleet-q %'
          order by state = 'active' desc, md5(pid::text || ${String(dice)}) limit 1) as one
        where pg_terminate_backend(pid)`
      return rows[0] && { what: `terminated ${rows[0].name}` }
    },
  },
  'lock a table': {
    about: 'somebody holds ACCESS EXCLUSIVE on a table of the trays, as a careless migration does',
    lastsMs: [2000, 30_000],
    begin: (world, dice) => {
      const tables = ['ready', 'claims', 'outcomes', 'steps', 'lanes', 'attempts']
      const table = tables[Math.floor(dice * tables.length)] ?? 'ready'
      return held(world, `lock table fleet_q.${table} in access exclusive mode`, `locked ${table}`)
    },
  },
  'hold a snapshot': {
    about: 'somebody forgets a transaction',
    lastsMs: [3000, 10_000],
    begin: (world) =>
      held(
        world,
        'set transaction isolation level repeatable read; select txid_current()',
        'held a snapshot',
      ),
  },
  'disk full': {
    about: 'the disk of the server is full, and has room again',
    lastsMs: [1000, 4000],
    async begin(world) {
      const { disk } = world
      if (!disk) return undefined
      disk.fill()
      return {
        what: 'filled the disk',
        isOutage: true,
        async end() {
          disk.free()
          // It may have panicked, and not come up again for want of room.
          if (!world.server.isUp()) await world.server.start()
          await until(
            'the server to write again',
            async () => {
              const answer = await world.sql`create temp table if not exists room (n int)`.catch(
                () => undefined,
              )
              if (!answer && !world.server.isUp()) await world.server.start().catch(() => {})
              return answer
            },
            60_000,
          )
        },
      }
    },
  },
} satisfies Record<string, FaultKind>
