import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Sql } from '../../src/db/connect.ts'

/** From here on the database writes down what happens to it; and the limits are set that a run is held to. */
export async function startAudit(sql: Sql) {
  await sql.unsafe(readFileSync(join(import.meta.dirname, 'audit.sql'), 'utf8'))
  await sql`insert into fleet_q.limits (type, max_running, max_running_per_key) values ('limited', 3, null), ('single', null, 1)`
}
