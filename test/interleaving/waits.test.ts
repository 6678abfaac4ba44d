import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Database } from '../../src/db/connect.ts'
import { sqlState } from '../../src/db/failure.ts'
import { FleetError } from '../../src/errors.ts'
import { newCheckpoint } from '../../src/execution/checkpoint.sql.ts'
import { createCheckpoints } from '../../src/execution/checkpoints.ts'
import { offerEvent } from '../../src/execution/send-event.ts'
import { settleExecutions } from '../../src/execution/settle-executions.ts'
import { recoverBatch } from '../../src/recovery/run-cycle.ts'
import { cancelStep } from '../../src/step/cancel.ts'
import { promote } from '../../src/step/promote.ts'
import type { Report } from '../../src/step/settle.sql.ts'
import { createSubmitter } from '../../src/step/submit.ts'
import { tester } from '../support/actor.ts'
import { testDatabase } from '../support/database.ts'
import { explore } from './explore.ts'
import { openGate } from './gate.ts'
import { completedReport, TYPE } from './operations.ts'

/**
 * An execution goes to sleep over an event and another step, while the one is sent and the other ends: in every order in
 * which their statements can meet, whoever comes second sees the other, and nothing sleeps over what is there.
 */

const { url, sql, database: plain } = await testDatabase()
const GATED = new Set([
  'execution.lock',
  'execution.answer',
  'execution.answer_parents',
  'execution.write',
  'execution.send_event',
  'step.settle',
  'step.cancel',
  'step.followers',
  'step.share_claim',
  'step.submit',
  'step.promote',
  'recovery.take_claims',
  'recovery.put_back',
])
const gates = [await openGate(url, 'wait A', GATED), await openGate(url, 'wait B', GATED)] as const

interface Scene {
  parent: string
  child: string
}

/** Pod 1 holds the parent, which waits for the event "go" and for its child; pod 2 holds the child; pod 3 is dead. */
async function setScene(childOn: 'a living pod' | 'a dead pod', hasUndos: boolean): Promise<Scene> {
  await sql`
    truncate fleet_q.steps, fleet_q.lanes, fleet_q.ready, fleet_q.later, fleet_q.claims, fleet_q.attempts, fleet_q.outcomes,
      fleet_q.dead_letters, fleet_q.leader_terms, fleet_q.pods, fleet_q.checkpoints, fleet_q.events, fleet_q.audit,
      fleet_q.idempotency_keys restart identity cascade`
  await sql`
    insert into fleet_q.pods (public_id, name, status, version, types, capacity, dead_after_ms, leader_eligible, ended_at, ended_why)
    select name, name, status::fleet_q.pod_status, '0', '{made}', 8, 15000, true,
      case when status = 'dead' then now() end, case when status = 'dead' then 'made so' end
    from (values ('parents', 'live'), ('childs', 'live'), ('dead', 'dead')) as made (name, status)`
  await sql`insert into fleet_q.leader_terms (pod_id, began_why) values (1, 'made')`
  await sql`
    insert into fleet_q.steps (id, salt, lane_id, max_retries, args, parent_id)
    values (1, 1, fleet_q.lane_of(${TYPE}, 0, ''), 0, '{}', null), (2, 2, fleet_q.lane_of(${TYPE}, 0, ''), 0, '{}', 1)`
  await sql`select setval('fleet_q.step_ids', 2)`
  await sql`
    insert into fleet_q.claims (pod_id, step_ids, attempts)
    values (1, '{1}', '{1}'), (${childOn === 'a living pod' ? 2 : 3}, '{2}', '{1}')`
  await sql`
    insert into fleet_q.checkpoints (step_id, name, number, kind, after_turn, claim_id, child_id)
    values (1, 'go', 1, 'event', 0, 1, null), (1, 'child/result', 1, 'result', 0, 1, 2)`
  if (hasUndos)
    await sql`
      insert into fleet_q.checkpoints (step_id, name, number, kind, turn, after_turn, claim_id)
      values (1, 'undo', 1, 'undo', 1, 0, 1)`
  const ids = await sql<{ id: string }[]>`
    select fleet_q.step_public_id(id, salt, created_at) as id from fleet_q.steps order by id`
  return { parent: ids[0]?.id ?? '', child: ids[1]?.id ?? '' }
}

type Act = (database: Database, scene: Scene) => Promise<unknown>

const REPORT = completedReport('1', '1')

const asleep: Report = {
  ...REPORT,
  outcome: null,
  ended: 'suspended',
  result: null,
  nextAttempt: 1,
  waitsFor: 'answer',
}

const undo = newCheckpoint({
  claimId: '1',
  stepId: '1',
  name: 'undo',
  number: 1,
  kind: 'undo',
  turn: 1,
  after: 0,
  mayStand: false,
})

const ACTS: Record<string, Act> = {
  'it goes to sleep': (database) => settleExecutions(database, '1', [asleep], ['1']),
  'it goes to sleep, and has something to undo': (database) =>
    settleExecutions(database, '1', [{ ...asleep, hasUndos: true }], ['1']),
  'it completes, and has something to undo': (database) =>
    settleExecutions(database, '1', [{ ...REPORT, mayStand: true, hasUndos: true }], ['1']),
  'it registers something to undo': (database) => createCheckpoints(database, '1').write(undo),
  'its event is sent': (database, { parent }) => offerEvent(database, parent, 'go', { by: 'ada' }),
  'another is sent': (database, { parent }) => offerEvent(database, parent, 'go', { by: 'bob' }),
  'its child completes': async (database) => {
    const report: Report = { ...completedReport('2', '2'), hasParent: true }
    try {
      return await settleExecutions(database, '2', [report], ['2'])
    } catch (error) {
      // Another outcome stands in its way: as a pod does, the long way.
      if (sqlState(error) !== '23505') throw error
      return settleExecutions(database, '2', [{ ...report, mayStand: true }], ['2'])
    }
  },
  'its child is cancelled': (database, { child }) => cancelStep(database, tester, child, 'no', () => {}),
  'it is cancelled': (database, { parent }) => cancelStep(database, tester, parent, 'no', () => {}),
  'its limit comes': async (database) => {
    await sql`update fleet_q.later set due_at = now() - interval '1 s'`
    return promote(database)
  },
  'its child is given up': (database) => recoverBatch(database, '1', 0),
  'it submits another': (database) =>
    createSubmitter({
      database,
      shared: database,
      callBehind() {},
      onSubmitted() {},
      onReplaced() {},
    }).submit([{ type: TYPE, args: {}, priority: 0, max_retries: 0 }], 'another', {
      parent: { id: '1', claimId: '1', detached: false },
    }),
}

/** The parent is not asleep before. */
const IS_AT_WORK = /^it (goes to sleep|submits|completes|registers)/

const PAIRS: [string, string][] = [
  ['it goes to sleep', 'its event is sent'],
  ['it goes to sleep', 'its child completes'],
  ['it goes to sleep', 'its child is cancelled'],
  ['it goes to sleep', 'its child is given up'],
  ['it goes to sleep', 'it is cancelled'],
  ['its event is sent', 'another is sent'],
  ['its event is sent', 'its child completes'],
  ['its event is sent', 'its limit comes'],
  ['its event is sent', 'it is cancelled'],
  ['its child completes', 'its child is cancelled'],
  ['its child completes', 'it is cancelled'],
  ['its child is given up', 'it is cancelled'],
  ['it submits another', 'it is cancelled'],
  ['it goes to sleep, and has something to undo', 'it is cancelled'],
  ['it completes, and has something to undo', 'it is cancelled'],
  ['it registers something to undo', 'it is cancelled'],
]

for (const pair of PAIRS)
  test(`${pair.join(', and ')}, in every order`, async (t) => {
    let scene: Scene
    const act = pair.map((name, i) => async () => {
      try {
        return await ACTS[name]?.(gates[i === 0 ? 0 : 1].database, scene)
      } catch (error) {
        // Whoever comes too late is told so.
        if (error instanceof FleetError && error.code === 'wrong_state') return 'too late'
        throw error
      }
    })
    const orders = await explore<unknown>({
      gates,
      sql,
      async arrange() {
        scene = await setScene(
          pair.includes('its child is given up') ? 'a dead pod' : 'a living pod',
          pair.some((name) => name.endsWith('and has something to undo')),
        )
        // Asleep already, where nobody puts it to sleep.
        if (!pair.some((name) => IS_AT_WORK.test(name))) await settleExecutions(plain, '1', [asleep], ['1'])
      },
      act: [() => act[0]?.(), () => act[1]?.()] as [() => Promise<unknown>, () => Promise<unknown>],
      async check({ moves }) {
        try {
          await checkWaits()
        } catch (error) {
          throw new Error(`${moves.join(', ')}: ${String(error)}`, { cause: error })
        }
      },
    })
    t.diagnostic(`${orders} orders`)
  })

async function checkWaits() {
  const [left] = await sql<
    {
      lost: boolean
      twice: number
      both: boolean
      orphans: number
      places: number
      undoing: boolean
      forsaken: boolean
    }[]
  >`
    select
      -- It sleeps, and what it sleeps over is there.
      exists (
        select from fleet_q.later join fleet_q.checkpoints as open using (step_id)
        where later.why = 'wait' and open.turn is null and (
          open.arrived_at is not null
          or open.kind = 'event' and exists (
            select from fleet_q.events where events.step_id = open.step_id and taken_by is null)
          or open.kind = 'result' and exists (select from fleet_q.outcomes where outcomes.step_id = open.child_id))
      ) as lost,
      (select count(*)::int from fleet_q.events where taken_by is not null) as twice,
      exists (select from fleet_q.ready join fleet_q.later using (step_id)) as both,
      -- A cancel was confirmed that is to undo what it did, and it sleeps over that, or has ended without.
      exists (
        select from fleet_q.checkpoints as failure
        where failure.kind = 'failure' and failure.turn is null and (
          exists (select from fleet_q.later where later.step_id = failure.step_id)
          or exists (select from fleet_q.outcomes where outcomes.step_id = failure.step_id))
      ) as undoing,
      -- It was cancelled, and something is registered that nobody undoes.
      exists (
        select from fleet_q.checkpoints as undo join fleet_q.outcomes using (step_id)
        where undo.kind = 'undo' and outcomes.status = 'cancelled'
      ) as forsaken,
      -- Its parent was cancelled, and nobody cancels it any more.
      (
        select count(*)::int from fleet_q.steps as child join fleet_q.outcomes as parent on parent.step_id = child.parent_id
        where parent.status = 'cancelled' and not exists (select from fleet_q.outcomes where step_id = child.id)
      ) as orphans,
      (
        select count(*)::int from (
          select step_id from fleet_q.ready union all select step_id from fleet_q.later
          union all select unnest(step_ids) from fleet_q.claims
        ) as lies where step_id = 1
      ) as places`
  assert.equal(left?.lost, false, 'it sleeps over what is there')
  assert.ok((left?.twice ?? 0) <= 1, 'two events were taken by one wait')
  assert.equal(left?.both, false, 'it lies in two trays')
  assert.equal(left?.undoing, false, 'what it did is not undone, and a cancel was confirmed')
  assert.equal(left?.forsaken, false, 'what it registered is never undone')
  assert.equal(left?.orphans, 0, 'a step outlives the cancel of what had submitted it')
  assert.ok((left?.places ?? 0) <= 1, 'it lies in two places')
}
