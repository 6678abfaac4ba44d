import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { FleetError } from '../errors.ts'
import { pass } from '../kernel/failpoint.ts'
import { type Database, type Sql } from './connect.ts'
import { sqlState } from './failure.ts'

export interface Migration {
  version: number
  name: string
  text: string
}

const FOLDER = fileURLToPath(new URL('../../sql/migrations/', import.meta.url))

/** Oldest Postgres whose SQL we use: gen_random_uuid, insert-triggered vacuum and multirange-free DDL. */
const POSTGRES_OLDEST = 14

const MIGRATION_MS_MAX = 600_000

export function readMigrations(folder = FOLDER): Migration[] {
  return readdirSync(folder)
    .filter((file) => /^\d{4}_.+\.sql$/.test(file))
    .toSorted()
    .map((file) => ({
      version: Number(file.slice(0, 4)),
      name: file.slice(5, -4),
      text: readFileSync(join(folder, file), 'utf8'),
    }))
}

export interface Migrated {
  applied: number[]
  version: number
  /** Left behind by a `concurrently` that failed: Postgres writes to them, and finds nothing by them. */
  invalidIndexes: string[]
}

/**
 * Brings the schema up to date. Any number of pods may call this at once: each migration is one transaction whose
 * first act is to insert its version, so the second pod waits at the primary key, finds it taken, and goes on.
 * No advisory lock: engines that only speak Postgres need not have one.
 */
export async function migrate(database: Database, migrations = readMigrations()): Promise<Migrated> {
  await refuseOldPostgres(database)
  await withRetry(() => database.run(createLedger))
  const known = migrations.at(-1)?.version ?? 0
  const present = await findVersions(database)
  const applied: number[] = []
  for (const migration of migrations.filter(({ version }) => !present.has(version))) {
    const isMine = await withRetry(() =>
      database.begin((tx) => apply(tx, migration), MIGRATION_MS_MAX),
    ).catch((error: unknown) => {
      throw isForbidden(error) && present.size > 0 ? notTheOwner(Math.max(...present), known) : error
    })
    if (!isMine) continue
    applied.push(migration.version)
    await pass('migration.after_commit')
  }
  const version = Math.max(0, ...(await findVersions(database)))
  if (version > known)
    throw new FleetError(
      'schema_newer',
      `The schema in this database is version ${version}; this build knows ${known}. A newer Fleet-Q has migrated it: ` +
        'deploy that version here too, or point DATABASE_URL at another database.',
    )
  return { applied, version, invalidIndexes: await database.run(findInvalidIndexes) }
}

async function apply(tx: Sql, { version, name, text }: Migration): Promise<boolean> {
  // A table that somebody holds must not queue every other statement behind our DDL: give up soon, try again.
  await tx`/* migrate.patience */ set local lock_timeout = '5s'`
  // Pods end their statements after seconds; an index on a big table may take longer.
  await tx.unsafe(`/* migrate.time */ set local statement_timeout = ${MIGRATION_MS_MAX}`)
  const [mine] = await tx`/* migrate.claim */
    insert into fleet_q.migrations (version, name) values (${version}, ${name})
    on conflict do nothing returning version`
  if (!mine) return false
  await tx.unsafe(text)
  // It may have brought tables, and rights to them have to come with them.
  const [grants] = await tx<{ known: boolean }[]>`/* migrate.look_for_grants */
    select to_regprocedure('fleet_q.apply_grants()') is not null as known`
  if (grants?.known) await tx`/* migrate.grants */ select fleet_q.apply_grants()`
  await pass('migration.before_commit')
  return true
}

async function createLedger(sql: Sql) {
  const [there] = await sql`/* migrate.look */ select to_regclass('fleet_q.migrations') as ledger`
  if (there?.['ledger']) return
  await sql`/* migrate.schema */ create schema if not exists fleet_q`
  await sql`/* migrate.ledger */
    create table if not exists fleet_q.migrations (
      version int primary key, name text not null, applied_at timestamptz not null default now())`
}

async function findVersions(database: Database): Promise<Set<number>> {
  const rows = await database.run(
    (sql) => sql<{ version: number }[]>`select /* migrate.versions */ version from fleet_q.migrations`,
  )
  return new Set(rows.map((row) => row.version))
}

const isForbidden = (error: unknown) => sqlState(error) === '42501'

const notTheOwner = (version: number, known: number) =>
  new FleetError(
    'schema_older',
    `The schema in this database is version ${version}, this build needs ${known}, and the user of DATABASE_URL may ` +
      'not change it. Run `fleet-q migrate` once as the owner of the schema, then start the pods.',
  )

async function findInvalidIndexes(sql: Sql): Promise<string[]> {
  const rows = await sql<{ name: string }[]>`/* migrate.indexes */
    select indexrelid::regclass::text as name from pg_index
    join pg_class on pg_class.oid = indexrelid
    where relnamespace = 'fleet_q'::regnamespace and not indisvalid order by 1`
  return rows.map((row) => row.name)
}

async function refuseOldPostgres(database: Database) {
  const [row] = await database.run(
    (sql) => sql<{ number: string; name: string }[]>`/* migrate.server */
      select current_setting('server_version_num') as number, current_setting('server_version') as name`,
  )
  if (row && Number(row.number) < POSTGRES_OLDEST * 10_000)
    throw new FleetError(
      'postgres_too_old',
      `Postgres ${row.name} is too old: Fleet-Q needs ${POSTGRES_OLDEST} or later. Point DATABASE_URL at a newer ` +
        'server, or unset it and a pod brings its own.',
    )
}

/** Two pods that create the same thing at once collide in the catalogue; a table that is held frees up. */
async function withRetry<T>(work: () => Promise<T>): Promise<T> {
  for (let time = 1; ; time++) {
    try {
      return await work()
    } catch (error) {
      if (
        time >= 12 ||
        !['23505', '42P06', '42P07', '55P03', '40P01', '42710'].includes(sqlState(error) ?? '')
      )
        throw error
      await new Promise((resolve) => setTimeout(resolve, 100 * time))
    }
  }
}
