import { realpathSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { DATABASE, readPassword, SUPERUSER } from './cluster.ts'
import { codeOf } from './fail.ts'
import type { Home } from './home.ts'

/** No answer from 127.0.0.1 within that: a server that hangs. */
const LIMIT_MS = 10_000
/** A backend lives on for some milliseconds after its client has closed; a pod's own must not count. */
const LINGER_MS = 300

/** A database that every cluster has. */
const MAINTENANCE = 'postgres'

export const urlOf = (home: Home, port: number) =>
  `postgres://${SUPERUSER}:${readPassword(home)}@127.0.0.1:${port}/${DATABASE}`

/** The version of the server behind the address; undefined when it serves another folder than ours. */
export async function serverVersion(url: string, { cluster }: Home): Promise<string | undefined> {
  const rows = await onDatabase(
    url,
    (sql) =>
      sql<{ folder: string; version: string }[]>`
      /* local.version */ select current_setting('data_directory') as folder, current_setting('server_version') as version`,
  )
  const [row] = rows
  if (row === undefined || realpathSync(row.folder) !== realpathSync(cluster)) return undefined
  return row.version.split(' ')[0]
}

/**
 * Whether others are connected, to whichever database of this server: it would be stopped under all of them.
 */
export async function hasClients(url: string): Promise<boolean> {
  return ask(
    url,
    async (sql) => {
      const until = performance.now() + LINGER_MS
      for (;;) {
        const rows = await sql`/* local.clients */ select 1 from pg_stat_activity
        where backend_type = 'client backend' and pid <> pg_backend_pid() limit 1`
        if (rows.length === 0) return false
        if (performance.now() > until) return true
        await sleep(20)
      }
    },
    MAINTENANCE,
  )
}

/** Makes the database where it is missing: on the first start, and if that was killed before it came to it. */
async function onDatabase<T>(url: string, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  try {
    return await ask(url, work)
  } catch (error) {
    if (codeOf(error) !== '3D000') throw error
    await ask(url, (sql) => sql`/* local.create */ create database ${sql(DATABASE)}`, MAINTENANCE)
    return ask(url, work)
  }
}

async function ask<T>(url: string, work: (sql: postgres.Sql) => Promise<T>, database = DATABASE): Promise<T> {
  const sql = postgres(url, {
    database,
    max: 1,
    ssl: false,
    prepare: false,
    fetch_types: false,
    connect_timeout: LIMIT_MS / 1000,
    onnotice: () => {},
    connection: { application_name: 'fleet-q local' },
  })
  // The driver has no limit of its own for a query; ending the pool rejects what is under way.
  const limit = setTimeout(() => void sql.end({ timeout: 0 }), LIMIT_MS)
  try {
    return await work(sql)
  } finally {
    clearTimeout(limit)
    await sql.end({ timeout: 1 })
  }
}
