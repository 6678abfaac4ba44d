import { join } from 'node:path'
import postgres from 'postgres'
import { startLocalPostgres } from '../../src/db/local/start.ts'

/** One server for the whole run, for everybody, with the same settings. */

/** What PERF.md was measured with; a checkpoint in the middle of one contender's run would be its bad luck. */
const SETTINGS = {
  shared_buffers: '2GB',
  effective_cache_size: '8GB',
  max_wal_size: '8GB',
  min_wal_size: '2GB',
  checkpoint_timeout: '15min',
  synchronous_commit: 'on',
  fsync: 'on',
  full_page_writes: 'on',
  random_page_cost: '1.1',
  track_io_timing: 'on',
  // PERF.md had 300; 200 idle pods want more.
  max_connections: '1000',
  shared_preload_libraries: 'pg_stat_statements',
  // As Postgres comes; the server of a pod of ours would switch it off.
  jit: 'on',
}

export interface Server {
  /** Of the database in which the bench itself sits. */
  url: string
  admin: postgres.Sql
  version: string
  /** For the line below the table. */
  settings: string
  urlOf(database: string): string
  stop(): Promise<void>
}

export async function startServer(cache: string, given: string | undefined): Promise<Server> {
  const local = given
    ? undefined
    : await startLocalPostgres({ dataDir: join(cache, 'server'), settings: SETTINGS })
  const url = given ?? local?.url ?? ''
  const admin = postgres(url, { max: 4, onnotice: () => {} })
  const stop = async () => {
    await admin.end({ timeout: 2 })
    await local?.stop()
  }
  try {
    await admin`create extension if not exists pg_stat_statements`.catch(() => {})
    const [row] = await admin<{ server_version: string }[]>`show server_version`
    return {
      url,
      admin,
      version: row?.server_version ?? '?',
      settings: await describe(admin),
      urlOf(database) {
        const address = new URL(url)
        address.pathname = `/${database}`
        return address.href
      },
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

async function describe(admin: postgres.Sql): Promise<string> {
  const names = [
    'shared_buffers',
    'max_wal_size',
    'synchronous_commit',
    'fsync',
    'full_page_writes',
    'data_checksums',
    'jit',
  ]
  const rows = await admin<{ name: string; value: string }[]>`
    select name, current_setting(name) as value from pg_settings where name = any (${names}) order by name`
  return rows.map(({ name, value }) => `${name} ${value}`).join(', ')
}
