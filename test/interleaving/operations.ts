import type postgres from 'postgres'
import type { Database } from '../../src/db/connect.ts'
import { beatHeart } from '../../src/pod/pod.sql.ts'
import { declareDead } from '../../src/recovery/recovery.sql.ts'
import { recoverBatch } from '../../src/recovery/run-cycle.ts'
import { cancelStep } from '../../src/step/cancel.ts'
import { redriveStep } from '../../src/step/redrive.ts'
import type { Want } from '../../src/step/claim.sql.ts'
import { exchange } from '../../src/step/exchange.sql.ts'
import { createForgetter } from '../../src/step/forget.ts'
import { pause } from '../../src/step/pause.ts'
import { settle, type Report } from '../../src/step/settle.sql.ts'
import { createSubmitter } from '../../src/step/submit.ts'
import { tester } from '../support/actor.ts'

/** A small fleet in rows, in which everything is about to happen. */
export interface Scene {
  leader: string
  term: string
  /** Silent for longer than its threshold; it may be declared dead, and may still be running. */
  victim: string
  /** Of the victim, over `held`. */
  claim: string
  worker: string
  otherWorker: string
  /** Under the worker's claim. */
  workersClaim: string
  workersStep: string
  held: [string, string]
  /** In their lane. */
  ready: [string, string]
  /** Ended without success: tried again by `retry`. */
  failed: string
  /** Cancelled while it lay in its lane, and still there. */
  cancelled: string
  completed: string
}

export const TYPE = 'made'

const ALL_TABLES = `fleet_q.steps, fleet_q.lanes, fleet_q.ready, fleet_q.later, fleet_q.claims, fleet_q.attempts,
  fleet_q.outcomes, fleet_q.dead_letters, fleet_q.redrives, fleet_q.idempotency_keys, fleet_q.unique_keys,
  fleet_q.pauses, fleet_q.checkpoints, fleet_q.past_checkpoints, fleet_q.recovery_cycles, fleet_q.leader_terms, fleet_q.pods`

export async function setScene(sql: postgres.Sql, options: { victimIsDead: boolean }): Promise<Scene> {
  await sql.unsafe(`truncate ${ALL_TABLES} restart identity cascade`)
  await sql`
    insert into fleet_q.pods (public_id, name, status, version, types, capacity, dead_after_ms, leader_eligible, born_at,
      beat_at, ended_at, ended_why)
    select name, name, status::fleet_q.pod_status, '0', '{made}', 8, 15000, true, now() - interval '1 hour', now() - silent,
      case when status = 'dead' then now() end, case when status = 'dead' then 'made so' end
    from (values ('leader', 'live', interval '0'), ('victim', ${options.victimIsDead ? 'dead' : 'live'}, interval '20 s'),
      ('worker', 'live', interval '0'), ('other', 'live', interval '0')) as made (name, status, silent)`
  await sql`insert into fleet_q.leader_terms (pod_id, began_why) values (1, 'made')`
  await sql`
    insert into fleet_q.steps (id, salt, lane_id, max_retries, args)
    select n, n, fleet_q.lane_of(${TYPE}, 0, ''), 3, '{}' from generate_series(1, 8) as n`
  await sql`select setval('fleet_q.step_ids', 8)`
  await sql`insert into fleet_q.ready (lane_id, step_id, attempt) select 1, step_id, 1 from unnest('{1,2,7}'::bigint[]) as step_id`
  await sql`insert into fleet_q.claims (pod_id, step_ids, attempts) values (2, '{3,4}', '{1,1}'), (3, '{5}', '{1}')`
  await sql`
    insert into fleet_q.outcomes (step_id, status, attempt, claim_id, pod_id, settled_at)
    values (6, 'failed', 4, 100, 3, now() - interval '1 hour'), (7, 'cancelled', 0, null, null, now() - interval '1 hour'),
      (8, 'completed', 1, 101, 3, now() - interval '1 hour')`
  await sql`
    insert into fleet_q.attempts (step_id, claim_id, attempt, pod_id, ended, started_at)
    select 6, 90 + n, n, 3, 'failed', now() from generate_series(1, 3) as n`
  const ids = await sql<
    { id: string }[]
  >`select fleet_q.step_public_id(id, salt, created_at) as id from fleet_q.steps order by id`
  const id = (n: number) => ids[n - 1]?.id ?? ''
  return {
    leader: '1',
    term: '1',
    victim: '2',
    claim: '1',
    worker: '3',
    otherWorker: '4',
    workersClaim: '2',
    workersStep: '5',
    held: [id(3), id(4)],
    ready: [id(1), id(2)],
    failed: id(6),
    cancelled: id(7),
    completed: id(8),
  }
}

/** Held up at its gate before each of these. */
export const GATED = new Set([
  'step.claim',
  'step.exchange',
  'step.settle',
  'pod.beat',
  'recovery.declare_dead',
  'recovery.take_claims',
  'recovery.put_back',
  'execution.lock',
  'step.cancel',
  'step.put_aside',
  'step.unready',
  'step.unlater',
  'step.put_in_ready',
  'step.pause',
  'step.pause_alone',
  'step.forget',
  'step.submit',
  'step.idempotency_take',
  'step.idempotency_name',
  'step.idempotency_find',
])

export interface Operation {
  name: string
  /** `second`: it meets itself, and is somebody else. */
  act(database: Database, scene: Scene, second: boolean): Promise<unknown>
}

export const want = (podId: string, limit = 10): Want => ({
  podId,
  types: [TYPE],
  limit,
  turns: [],
  markLanes: [],
  markPositions: [],
  frontLanes: [],
  frontPositions: [],
})

export const completedReport = (claimId: string, stepId: string, attempt = 1): Report => ({
  claimId,
  stepId,
  attempt,
  outcome: 'completed',
  ended: null,
  result: '{}',
  error: null,
  startedMs: performance.now(),
  delayMs: null,
  nextAttempt: null,
})

const retriedReport = (claimId: string, stepId: string): Report => ({
  ...completedReport(claimId, stepId),
  outcome: null,
  ended: 'failed',
  result: null,
  error: '{"class":"Error","message":"made"}',
  delayMs: 0,
  nextAttempt: 2,
})

export const OPERATIONS: Operation[] = [
  {
    name: 'exchange',
    act: (database, scene, second) =>
      database.run((sql) =>
        second
          ? exchange(sql, want(scene.otherWorker), [], [])
          : exchange(
              sql,
              want(scene.worker),
              [completedReport(scene.workersClaim, scene.workersStep)],
              [scene.workersClaim],
            ),
      ),
  },
  {
    // What a pod hands in that is slow, or a zombie: one step has ended, one wants another try.
    name: 'settle',
    act: (database, scene) =>
      database.run((sql) =>
        settle(
          sql,
          scene.victim,
          [completedReport(scene.claim, '3'), retriedReport(scene.claim, '4')],
          [scene.claim],
        ),
      ),
  },
  {
    // The claim stands on, for its other step: whoever waits for its row finds it as it was.
    name: 'settle one of two',
    act: (database, scene) =>
      database.run((sql) => settle(sql, scene.victim, [retriedReport(scene.claim, '4')], [])),
  },
  {
    name: 'heartbeat',
    act: (database, scene) =>
      database.run((sql) => beatHeart(sql, { id: scene.victim, heartbeatMs: 5000, running: 2, stuck: 0 })),
  },
  {
    name: 'declare dead',
    act: (database, scene) => database.run((sql) => declareDead(sql, scene.leader, scene.term, 10)),
  },
  { name: 'recover', act: (database, scene) => recoverBatch(database, scene.term, 0) },
  // Apart, each with everything else: three in a row would meet another three in fifty thousand orders.
  ...(
    [
      ['cancel what lies ready', (scene) => scene.ready[0]],
      ['cancel what runs', (scene) => scene.held[0]],
      ['cancel what wants another try', (scene) => scene.held[1]],
    ] satisfies [string, (scene: Scene) => string][]
  ).map(([name, which]): Operation => ({
    name,
    act: (database, scene) => cancelStep(database, tester, which(scene), 'made', () => {}),
  })),
  {
    name: 'retry',
    async act(database, scene) {
      for (const id of [scene.failed, scene.cancelled]) await redriveStep(database, tester, id, () => {})
    },
  },
  {
    name: 'pause',
    act: (database) => pause(database, tester, { type: TYPE, key: null, until: null, reason: null }),
  },
  { name: 'retention', act: (database) => createForgetter(database, 60).round() },
  {
    name: 'idempotent submit',
    act: (database) =>
      createSubmitter({
        database,
        shared: database,
        callBehind: () => {},
        onSubmitted: () => {},
        onReplaced: () => {},
      }).submit([{ type: TYPE, args: {}, priority: 0, max_retries: 3 }], 'one key'),
  },
]
