import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import postgres from 'postgres'
import { connect } from '../../src/db/connect.ts'
import { startLocalPostgres } from '../../src/db/local/start.ts'
import { migrate, readMigrations, type Migration } from '../../src/db/migrate.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { SCHEMA_PAGE, schemaPage } from '../support/schema-page.ts'
import { createTemplate, withDatabase } from '../support/template.ts'

const ours = readMigrations()
const versions = ours.map(({ version }) => version)
const newest = versions.at(-1) ?? 0
const next = (text: string): Migration => ({ version: newest + 1, name: 'next', text })

/** A starter: its own connections, as a pod has. */
function starter(url: string, deadlineMs = 20_000) {
  const database = connect({ url, name: 'fleet-q test', max: 1, pooler: false, deadlineMs })
  atEnd(() => database.close())
  return database
}

const empty = await testDatabase({ empty: true })
const two = await testDatabase({ empty: true })
const eight = await testDatabase({ empty: true })
const newer = await testDatabase()
const failing = await testDatabase()
const slow = await testDatabase()

describe('a pod that starts brings the schema up to date', () => {
  test('from nothing, each migration once and in order; and then there is nothing to do', async () => {
    const sound = { version: newest, invalidIndexes: [] }
    assert.deepEqual(await migrate(empty.database), { applied: versions, ...sound })
    assert.deepEqual(await migrate(empty.database), { applied: [], ...sound })
    const ledger = await empty.sql`select version, name from fleet_q.migrations order by version`
    assert.deepEqual(
      ledger.map((row) => ({ ...row })),
      ours.map(({ version, name }) => ({ version, name })),
    )
  })

  for (const [many, db] of [
    [2, two],
    [8, eight],
  ] as const)
    test(`${many} pods that start at once migrate once, and all of them go on`, async () => {
      const told = await Promise.all(Array.from({ length: many }, () => migrate(starter(db.url))))
      assert.deepEqual(
        told.flatMap(({ applied }) => applied).toSorted((a, b) => a - b),
        versions,
      )
      assert.deepEqual(
        told.map(({ version }) => version),
        told.map(() => newest),
      )
    })

  test('a schema that a newer Fleet-Q has migrated is refused, with what to do', async () => {
    await migrate(newer.database, [...ours, next('create table fleet_q.from_the_future ()')])
    await assert.rejects(migrate(newer.database), {
      code: 'schema_newer',
      message:
        `The schema in this database is version ${newest + 1}; this build knows ${newest}. A newer Fleet-Q has ` +
        'migrated it: deploy that version here too, or point DATABASE_URL at another database.',
    })
  })

  test('a migration that fails leaves nothing behind, and its mended form is applied', async () => {
    const broken = next('create table fleet_q.half (id int); select 1 / 0')
    await assert.rejects(migrate(failing.database, [...ours, broken]), { code: '22012' })
    const [left] = await failing.sql`
      select to_regclass('fleet_q.half') as half, max(version) as version from fleet_q.migrations`
    assert.deepEqual({ ...left }, { half: null, version: newest })

    const mended = next('create table fleet_q.half (id int)')
    assert.deepEqual((await migrate(failing.database, [...ours, mended])).applied, [newest + 1])
  })

  test('a migration may take longer than a statement of a pod', async () => {
    const limited = starter(slow.url, 2000)
    const [limit] = await limited.run(
      (sql) =>
        sql<{ limit: string }[]>`/* test.limit */ select current_setting('statement_timeout') as limit`,
    )
    assert.equal(limit?.limit, '1s')
    assert.deepEqual((await migrate(limited, [...ours, next('select pg_sleep(1.2)')])).applied, [newest + 1])
  })

  test('an index that a failed build has left behind is named', async () => {
    await slow.sql`select fleet_q.submit('one'), fleet_q.submit('another')`
    await assert.rejects(slow.sql`create unique index concurrently half_built on fleet_q.lanes (priority)`, {
      code: '23505',
    })
    assert.deepEqual((await migrate(slow.database, [...ours, next('select 1')])).invalidIndexes, [
      'fleet_q.half_built',
    ])
  })

  test('a publication of all tables holds up no statement: each has a key, or is told by its whole row', async () => {
    const keyless = await empty.sql`
      select relname from pg_class
      where relnamespace = 'fleet_q'::regnamespace and relkind = 'r' and relreplident <> 'f'
        and not exists (select from pg_index where indrelid = pg_class.oid and indisprimary)`
    assert.deepEqual([...keyless], [])
    await empty.sql`create publication everything for all tables`
    await empty.sql`select fleet_q.submit('any')`
    assert.equal((await empty.sql`delete from fleet_q.ready`).count, 1)
    await empty.sql`drop publication everything`
  })

  test('each migration is a letter: what it does, and what to do beforehand', () => {
    for (const { version, name, text } of ours)
      assert.match(text, /^-- .+\n(-- .+\n)*-- .*(beforehand|before).*\n/i, `${version} ${name}`)
    assert.deepEqual(
      versions,
      versions.map((_, n) => n + 1),
    )
  })
})

describe('sql/schema.sql is what the migrations make', () => {
  const page = readFileSync(SCHEMA_PAGE, 'utf8')
  const advice = 'a migration has changed: run `npm run generate`, and look at what it changes'

  test('on the Postgres of this run', async () => {
    assert.equal(await schemaPage(eight.sql), page, advice)
  })

  test('on the Postgres that pods bring along', async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'fleet-q-schema-'))
    const local = await startLocalPostgres({ dataDir, prefer: 'npm', settings: { fsync: 'off' } })
    const template = await createTemplate(local.url)
    const sql = postgres(withDatabase(local.url, template.name), { max: 1, onnotice: () => {} })
    try {
      assert.equal(await schemaPage(sql), page, advice)
    } finally {
      await sql.end()
      await template.drop()
      await local.stop()
      for (const used of [dataDir, local.dataDir]) rmSync(used, { recursive: true, force: true })
    }
  })
})
