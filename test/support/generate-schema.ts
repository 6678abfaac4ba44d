import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres from 'postgres'
import { startLocalPostgres } from '../../src/db/local/start.ts'
import { SCHEMA_PAGE, schemaPage } from './schema-page.ts'
import { createTemplate, withDatabase } from './template.ts'

/** npm run generate: writes the page of the schema, from a Postgres of its own or TEST_DATABASE_URL. */
const folder = mkdtempSync(join(tmpdir(), 'fleet-q-schema-'))
const given = process.env['TEST_DATABASE_URL']
const local = given ? undefined : await startLocalPostgres({ dataDir: folder, settings: { fsync: 'off' } })
const url = given ?? local?.url ?? ''
const migrated = await createTemplate(url)
const sql = postgres(withDatabase(url, migrated.name), { max: 1, onnotice: () => {} })
writeFileSync(SCHEMA_PAGE, await schemaPage(sql))
await sql.end()
await migrated.drop()
await local?.stop()
for (const used of [folder, local?.dataDir ?? folder]) rmSync(used, { recursive: true, force: true })
process.stdout.write(`${SCHEMA_PAGE} written\n`)
