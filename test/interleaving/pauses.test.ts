import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Database } from '../../src/db/connect.ts'
import { endPauses, pauseExecutions, resumeExecutions } from '../../src/execution/pause-execution.ts'
import { exchange } from '../../src/step/exchange.sql.ts'
import { tester } from '../support/actor.ts'
import { testDatabase } from '../support/database.ts'
import { explore } from './explore.ts'
import { openGate } from './gate.ts'
import { TYPE, want } from './operations.ts'

/**
 * A claim meets an execution that is being paused, or resumed, in every order in which their statements can meet: nothing
 * that a pause held stays behind when it has ended, and nothing begins once a pause was answered.
 */

const { url, sql, database } = await testDatabase()
const GATED = new Set([
  'step.exchange',
  'execution.pause',
  'execution.end_pause',
  'execution.ended_pauses',
  'step.pause_alone',
  'execution.go_on',
])
const gates = [await openGate(url, 'pause A', GATED), await openGate(url, 'pause B', GATED)] as const

let its = ''

async function setScene(isPaused: boolean) {
  await sql`
    truncate fleet_q.steps, fleet_q.lanes, fleet_q.ready, fleet_q.later, fleet_q.claims, fleet_q.outcomes, fleet_q.pods,
      fleet_q.leader_terms, fleet_q.execution_pauses, fleet_q.audit restart identity cascade`
  await sql`
    insert into fleet_q.pods (public_id, name, version, types, capacity, dead_after_ms, leader_eligible)
    values ('pod', 'pod', '0', '{made}', 8, 15000, true)`
  await sql`
    insert into fleet_q.steps (id, salt, lane_id, max_retries, args) values (1, 1, fleet_q.lane_of(${TYPE}, 0, ''), 0, '{}')`
  await sql`insert into fleet_q.ready (lane_id, step_id, attempt) values (1, 1, 1)`
  const [row] = await sql<{ id: string }[]>`
    select fleet_q.step_public_id(id, salt, created_at) as id from fleet_q.steps`
  its = row?.id ?? ''
  if (isPaused) await sql`insert into fleet_q.execution_pauses (execution, step_id) values (${its}, 1)`
}

const claim = (gated: Database) => gated.run((each) => exchange(each, want('1'), [], []))

const where = async () => {
  const [row] = await sql<{ ready: boolean; held: boolean; claimed: boolean; paused: boolean }[]>`
    select exists (select from fleet_q.ready) as ready, exists (select from fleet_q.later) as held,
      exists (select from fleet_q.claims) as claimed,
      exists (select from fleet_q.execution_pauses where until is null or until > now()) as paused`
  return row ?? { ready: false, held: false, claimed: false, paused: false }
}

const ORDERS: [string, boolean, (gated: Database) => Promise<unknown>][] = [
  [
    'is resumed',
    true,
    (gated) => resumeExecutions(gated, tester, { execution: its, reason: null }, () => {}),
  ],
  [
    'is paused',
    false,
    (gated) =>
      pauseExecutions(gated, tester, { execution: its, until: null, reason: null }, () => Promise.resolve()),
  ],
  [
    'has its pause forgotten by the leader',
    true,
    async (gated) => {
      await sql`update fleet_q.execution_pauses set until = now()`
      await endPauses(gated, () => {})
    },
  ],
]

for (const [name, isPaused, act] of ORDERS)
  test(`a claim meets an execution that ${name}, in every order`, async (t) => {
    const orders = await explore<unknown>({
      gates,
      sql,
      arrange: () => setScene(isPaused),
      act: [() => claim(gates[0].database), () => act(gates[1].database)],
      async check({ moves }) {
        const at = await where()
        const told = `${moves.join(', ')}: ${JSON.stringify(at)}`
        assert.equal(Number(at.ready) + Number(at.held) + Number(at.claimed), 1, told)
        // Whatever was put off is moved on by whoever looks next, at the latest.
        if (at.held && !at.paused) {
          await endPauses(database, () => {})
          assert.equal((await where()).held, false, told)
        }
      },
    })
    t.diagnostic(`${orders} orders`)
  })
