import assert from 'node:assert/strict'
import { test } from 'node:test'
import type postgres from 'postgres'
import { testDatabase } from '../support/database.ts'

/** The database says what may exist: states that no verb of ours could leave behind, tried by hand. */

const db = await testDatabase()
const { sql } = db
const [pod] = await sql`
  insert into fleet_q.pods (public_id, name, version, types, capacity, dead_after_ms, leader_eligible)
  values ('pod-a', 'a', '0', '{}', 8, 15000, true) returning id`
const podId = String(pod?.['id'])
await sql`select fleet_q.submit('any')`

/** Refused, and by this constraint or for this reason. */
const refused = (statement: postgres.PendingQuery<postgres.Row[]>, reason: RegExp) =>
  assert.rejects(statement, reason)

test('a step has one outcome', async () => {
  await sql`insert into fleet_q.outcomes (step_id, status, attempt) values (1, 'cancelled', 0)`
  await refused(
    sql`insert into fleet_q.outcomes (step_id, status, attempt) values (1, 'failed', 1)`,
    /outcomes_pkey/,
  )
})

test('what was completed was claimed, and what was claimed says by whom', async () => {
  await refused(
    sql`insert into fleet_q.outcomes (step_id, status, attempt) values (2, 'completed', 1)`,
    /check constraint/,
  )
  await refused(
    sql`insert into fleet_q.outcomes (step_id, status, attempt, claim_id) values (2, 'failed', 1, 1)`,
    /check constraint/,
  )
})

test('a claim holds at least one step, and an attempt for each', async () => {
  await refused(
    sql`insert into fleet_q.claims (pod_id, step_ids, attempts) values (${podId}, '{}', '{}')`,
    /check constraint/,
  )
  await refused(
    sql`insert into fleet_q.claims (pod_id, step_ids, attempts) values (${podId}, '{1,2}', '{1}')`,
    /check constraint/,
  )
})

test('a claim belongs to a pod that is there, and a pod that holds claims cannot be deleted', async () => {
  await refused(
    sql`insert into fleet_q.claims (pod_id, step_ids, attempts) values (999, '{1}', '{1}')`,
    /foreign key/,
  )
  await sql`insert into fleet_q.claims (pod_id, step_ids, attempts) values (${podId}, '{1}', '{1}')`
  await refused(sql`delete from fleet_q.pods where id = ${podId}`, /foreign key/)
})

test('there is one open term, and a term that ended says why', async () => {
  await sql`insert into fleet_q.leader_terms (pod_id, began_why) values (${podId}, 'first')`
  await refused(
    sql`insert into fleet_q.leader_terms (pod_id, began_why) values (${podId}, 'second')`,
    /leader_terms_open/,
  )
  await refused(sql`update fleet_q.leader_terms set ended_at = now()`, /check constraint/)
})

test('one recovery cycle runs at a time', async () => {
  await sql`insert into fleet_q.recovery_cycles (pod_id) values (${podId})`
  await refused(
    sql`insert into fleet_q.recovery_cycles (pod_id) values (${podId})`,
    /recovery_cycles_running/,
  )
})

test('a pod that ended says when, and one that lives has not ended', async () => {
  await refused(sql`update fleet_q.pods set status = 'dead'`, /check constraint/)
  await refused(sql`update fleet_q.pods set ended_at = now()`, /check constraint/)
})

test('priority, attempts and retries stay within their range', async () => {
  await refused(sql`insert into fleet_q.lanes (type, priority) values ('any', 1001)`, /check constraint/)
  await refused(
    sql`insert into fleet_q.steps (salt, lane_id, max_retries, args) values (1, 1, -1, '{}')`,
    /check constraint/,
  )
  for (const tray of [
    sql`insert into fleet_q.ready (lane_id, step_id, attempt) values (1, 1, 0)`,
    sql`insert into fleet_q.later (step_id, lane_id, due_at, attempt, why) values (1, 1, now(), 0, 'retry')`,
    sql`insert into fleet_q.attempts (step_id, claim_id, attempt, pod_id, ended, started_at)
      values (1, 1, 0, 1, 'failed', now())`,
  ])
    await refused(tray, /check constraint/)
})

test('an id that could not be found again is not made: its chance has 60 bits', async () => {
  const write = (salt: bigint) =>
    sql`insert into fleet_q.steps (salt, lane_id, max_retries, args) values (${salt.toString()}, 1, 0, '{}')`
  await write(2n ** 60n - 1n)
  await refused(write(2n ** 60n), /steps_salt_check/)
  await refused(write(-1n), /steps_salt_check/)
})

test('a step runs, and expires, in a year of four digits', async () => {
  for (const column of ['run_at', 'expires_at'])
    for (const time of ['infinity', '10000-01-01', '1969-12-31'])
      await refused(
        sql`insert into fleet_q.steps (salt, lane_id, max_retries, args, ${sql(column)})
          values (1, 1, 0, '{}', ${time}::text::timestamptz)`,
        new RegExp(`steps_${column}_check`),
      )
})

test('arguments are an object, and so is what lies beside them', async () => {
  await refused(
    sql`insert into fleet_q.steps (salt, lane_id, max_retries, args) values (1, 1, 0, '[1]')`,
    /check constraint/,
  )
  await refused(
    sql`insert into fleet_q.steps (salt, lane_id, max_retries, args, metadata) values (1, 1, 0, '{}', '"text"')`,
    /check constraint/,
  )
})

test('a dead letter has an outcome', async () => {
  await refused(sql`insert into fleet_q.dead_letters (step_id, reason) values (77, 'poison')`, /foreign key/)
})

test('a pause and a limit say what they are for', async () => {
  await refused(sql`insert into fleet_q.pauses (reason) values ('nothing in particular')`, /check constraint/)
  await refused(sql`insert into fleet_q.limits (type) values ('any')`, /check constraint/)
  await refused(sql`insert into fleet_q.limits (type, max_running) values ('any', -1)`, /check constraint/)
})
