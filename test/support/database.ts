import postgres from 'postgres'
import { connect, type Database } from '../../src/db/connect.ts'
import { createTemplate, withDatabase } from './template.ts'
import { atEnd } from './cleanup.ts'

export interface TestDatabase {
  url: string
  /** For looking and for arranging what no verb of ours can. */
  sql: postgres.Sql
  /** As the product uses it. */
  database: Database
  /** Moves the clock of the whole database; every pod on it moves too. */
  travel(interval: string): Promise<void>
}

let count = 0

/** A database of this test file alone, migrated; gone when the file ends. `empty`: not migrated. */
export async function testDatabase(
  options: { empty?: boolean; serverUrl?: string } = {},
): Promise<TestDatabase> {
  const server = options.serverUrl ?? process.env['TEST_DATABASE_URL']
  if (!server) throw new Error('run tests by `npm test`, or set TEST_DATABASE_URL')
  const shared = options.serverUrl ? undefined : process.env['TEST_TEMPLATE']
  const template = options.empty
    ? undefined
    : shared
      ? { name: shared, drop: undefined }
      : await createTemplate(server)
  const name = `fleet_q_${process.pid}_${count++}_${Math.random().toString(36).slice(2, 8)}`
  const admin = postgres(server, { max: 1, onnotice: () => {} })
  await retry(() => admin.unsafe(`create database ${name} ${template ? `template ${template.name}` : ''}`))
  const url = withDatabase(server, name)
  const sql = postgres(url, { max: 4, onnotice: () => {} })
  const database = connect({ url, name: 'fleet-q test', max: 6, pooler: false, deadlineMs: 20_000 })

  atEnd(async () => {
    await sql.end({ timeout: 1 })
    await database.close()
    await admin.unsafe(`drop database if exists ${name} with (force)`)
    await template?.drop?.()
    await admin.end()
  })

  return {
    url,
    sql,
    database,
    async travel(interval) {
      await sql.unsafe(`
        create table if not exists fleet_q.test_clock (ahead interval not null);
        grant select on fleet_q.test_clock to public;
        insert into fleet_q.test_clock select '0' where not exists (select from fleet_q.test_clock);
        create or replace function fleet_q.clock() returns timestamptz language sql stable
          as 'select now() + (select ahead from fleet_q.test_clock)';`)
      await sql`update fleet_q.test_clock set ahead = ahead + ${interval}::interval`
    },
  }
}

/** Two files that clone the same template at one moment: Postgres asks the second to come again. */
async function retry(work: () => Promise<unknown>) {
  for (let time = 1; ; time++) {
    try {
      return await work()
    } catch (error) {
      if (time === 50 || (error as { code?: string }).code !== '55006') throw error
      await new Promise((resolve) => setTimeout(resolve, 20 * time))
    }
  }
}
