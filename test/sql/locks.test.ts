import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import postgres from 'postgres'
import type { Sql } from '../../src/db/connect.ts'
import { putBack } from '../../src/recovery/recovery.sql.ts'
import { redrive } from '../../src/step/redrive.ts'
import { cancelSteps, putInReady, putOutcomeAside, removeFromReady } from '../../src/step/cancel.sql.ts'
import { type ClaimedStep } from '../../src/step/claim.sql.ts'
import { exchange } from '../../src/step/exchange.sql.ts'
import { settle } from '../../src/step/settle.sql.ts'
import { createForgetter } from '../../src/step/forget.ts'
import { forgetHistory, forgetSettled } from '../../src/step/retention.sql.ts'
import { unnoted } from '../support/actor.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'
import {
  addLane,
  addPod,
  addSteps,
  againOf,
  claimedOf,
  failedOf,
  killPod,
  reportOf,
  want,
} from './arrange.ts'

const db = await testDatabase()
const { sql, database } = db
const aside = postgres(db.url, { max: 2, onnotice: () => {} })
atEnd(() => aside.end({ timeout: 1 }))

let count = 0

/** Steps of a type of their own, claimed by a pod of their own in one claim. */
async function claimed(steps: number) {
  const type = `t${count++}`
  const podId = await addPod(sql, [type])
  await addSteps(sql, await addLane(sql, { type }), steps)
  const held = claimedOf(
    await database.run((tx) => exchange(tx, want(podId, { types: [type], limit: steps }), [], [])),
  )
  assert.equal(held.length, steps)
  const [first, second, third] = held
  assert.ok(first && second && third)
  return { type, podId, held: [first, second, third] as const, claimId: first.claim_id }
}

/** A transaction that stays open until it is told to end; `end` may be called once. */
async function openTransaction<T>(work: (tx: Sql) => Promise<T>) {
  let end: (how: 'commit' | 'rollback') => void = () => {}
  const ended = new Promise<'commit' | 'rollback'>((resolve) => {
    end = resolve
  })
  let began: (done: T) => void = () => {}
  const isOpen = new Promise<T>((resolve) => {
    began = resolve
  })
  class RolledBack extends Error {}
  const over = database
    .begin(async (tx) => {
      began(await work(tx))
      if ((await ended) === 'rollback') throw new RolledBack()
    })
    .catch((error: unknown) => {
      if (!(error instanceof RolledBack)) throw error
    })
  const done = await Promise.race([isOpen, over.then(() => assert.fail('it ended before it was told to'))])
  return {
    done,
    async end(how: 'commit' | 'rollback') {
      end(how)
      await over
    },
  }
}

const isWaiting = (name: string) =>
  until(`${name} to wait for a lock`, async () => {
    const [row] = await aside`
      select 1 from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock' and query like ${`%/* ${name} */%`}`
    return row
  })

/** True when another transaction is about to give this step its outcome. */
async function isTaken(stepId: string): Promise<boolean> {
  class Undo extends Error {}
  try {
    await aside.begin(async (tx) => {
      await tx`set local lock_timeout = '50ms'`
      await tx`insert into fleet_q.outcomes (step_id, status, attempt) values (${stepId}, 'cancelled', 0)`
      throw new Undo()
    })
  } catch (error) {
    if (error instanceof Undo) return false
    if ((error as { code?: string }).code === '55P03') return true
    throw error
  }
  return false
}

const outcomeOf = async (step: ClaimedStep) => {
  const [row] = await sql<{ status: string }[]>`
    select status from fleet_q.outcomes where step_id = ${step.step_id}`
  return row?.status
}

describe('two batches cannot deadlock: each takes its keys in order, whatever order it was given', () => {
  const BATCHES: Record<
    string,
    (tx: Sql, given: { podId: string; claimId: string; held: readonly ClaimedStep[] }) => Promise<unknown>
  > = {
    'step.settle': (tx, { podId, claimId, held }) =>
      settle(
        tx,
        podId,
        held.toReversed().map((step) => reportOf(step)),
        [claimId],
      ),
    'step.exchange': (tx, { podId, claimId, held }) =>
      exchange(
        tx,
        want(podId),
        held.toReversed().map((step) => failedOf(step)),
        [claimId],
      ),
    'step.cancel': (tx, { held }) =>
      cancelSteps(
        tx,
        held.toReversed().map((step) => step.step_id),
        'the test says so',
      ),
    'recovery.put_back': async (tx, { podId, claimId, held }) => {
      await tx`delete from fleet_q.claims where id = ${claimId}`
      await putBack(
        tx,
        [
          {
            id: claimId,
            pod_id: podId,
            pod: 'pod',
            died: true,
            taken_at: new Date(),
            step_ids: held.toReversed().map((step) => step.step_id),
            attempts: held.map(() => 100),
          },
        ],
        3,
        0,
      )
    },
  }
  for (const [name, batch] of Object.entries(BATCHES))
    test(`${name} that waits for one step has touched none behind it`, async () => {
      const given = await claimed(3)
      const [first, second, third] = given.held
      const holder = await openTransaction(
        (tx) =>
          tx`insert into fleet_q.outcomes (step_id, status, attempt) values (${second.step_id}, 'cancelled', 0)`,
      )
      const running = database.begin((tx) => batch(tx, given))
      await isWaiting(name)
      assert.equal(await isTaken(first.step_id), true, 'what comes before it is taken')
      assert.equal(await isTaken(third.step_id), false, 'what comes after it is not')
      await holder.end('rollback')
      await running
      for (const step of given.held) assert.notEqual(await outcomeOf(step), undefined)
    })
})

describe('retention', () => {
  test('leaves a step alone that somebody redrives at this moment: its letter stays, and it runs again', async () => {
    const { podId, held, claimId, type } = await claimed(3)
    const [first, second] = held
    await database.run((tx) =>
      settle(
        tx,
        podId,
        held.map((step) => failedOf(step)),
        [claimId],
      ),
    )
    const redriving = await openTransaction(async (tx) => {
      const put = await putOutcomeAside(tx, [first.step_id])
      await putInReady(tx, put)
    })
    const [span] = await database.run((tx) => forgetSettled(tx, 0, '0', 1000))
    assert.ok((span?.forgotten ?? 0) >= 2)
    assert.equal(await outcomeOf(second), undefined)
    await redriving.end('commit')
    const again = claimedOf(await database.run((tx) => exchange(tx, want(podId, { types: [type] }), [], [])))
    assert.deepEqual(
      again.map((step) => step.step_id),
      [first.step_id],
    )
  })

  test('keeps what a claim still names, and takes away everything of a step that it forgets', async () => {
    const { podId, held, claimId } = await claimed(3)
    const [first, second, third] = held
    await database.run((tx) => settle(tx, podId, [reportOf(first)], []))
    await database.run((tx) => forgetSettled(tx, 0, '0', 1000))
    assert.equal(await outcomeOf(first), 'completed', 'its claim stands')
    await database.run((tx) => settle(tx, podId, [reportOf(second), failedOf(third)], [claimId]))
    for (const step of held) {
      await sql`insert into fleet_q.logs (step_id, claim_id, line, attempt, level, message)
        values (${step.step_id}, ${claimId}, 1, 1, 'info', 'said')`
      await sql`insert into fleet_q.progress (step_id, claim_id, percent) values (${step.step_id}, ${claimId}, 50)`
      await sql`insert into fleet_q.unique_keys (key, step_id) values (${step.step_id}, ${step.step_id})`
      await sql`insert into fleet_q.attempts (step_id, claim_id, attempt, pod_id, ended, started_at)
        values (${step.step_id}, 0, 1, ${podId}, 'failed', now())`
      await sql`insert into fleet_q.redrives (step_id, status, attempt) values (${step.step_id}, 'failed', 1)`
    }
    await database.run((tx) => forgetSettled(tx, 0, '0', 1000))
    const ids = held.map((step) => step.step_id)
    for (const table of [
      'outcomes',
      'logs',
      'progress',
      'unique_keys',
      'attempts',
      'redrives',
      'dead_letters',
    ]) {
      const rows = await sql`select from fleet_q.${sql(table)} where step_id = any (${ids}::bigint[])`
      assert.equal(rows.length, 0, table)
    }
    assert.equal((await sql`select from fleet_q.steps where id = any (${ids}::bigint[])`).length, 0)
  })

  test('leaves no outcome behind of a step that is cancelled again while it is forgotten', async () => {
    const [step = ''] = await addSteps(sql, await addLane(sql, { type: `t${count++}` }), 1)
    await database.run((tx) => cancelSteps(tx, [step], 'the test says so'))
    const forgetting = await openTransaction((tx) => forgetSettled(tx, 0, '0', 1000))
    const cancelled = database.run((tx) => cancelSteps(tx, [step], 'and again'))
    await isWaiting('step.cancel')
    await forgetting.end('commit')
    assert.deepEqual([...(await cancelled)], [])
    assert.equal((await sql`select from fleet_q.outcomes where step_id = ${step}`).length, 0)
  })

  test('takes a cancelled step out of a lane that nobody claims from', async () => {
    const type = `t${count++}`
    const ids = await addSteps(sql, await addLane(sql, { type }), 2)
    await database.run((tx) => cancelSteps(tx, ids.slice(0, 1), 'the test says so'))
    await database.run((tx) => forgetSettled(tx, 0, '0', 1000))
    const left = await sql<{ step_id: string }[]>`
      select step_id from fleet_q.ready where step_id = any (${ids}::bigint[])`
    assert.deepEqual(
      left.map((row) => row.step_id),
      ids.slice(1),
    )
  })

  test('reaches what is old behind a thousand young ones: steps that were delayed for long settle late', async () => {
    const ids = await addSteps(sql, await addLane(sql, { type: `t${count++}` }), 2500)
    await sql`
      insert into fleet_q.outcomes (step_id, status, attempt, settled_at)
      select id, 'cancelled', 0, now() - case when n > 2400 then interval '2 days' else '0' end
      from unnest(${ids}::bigint[]) with ordinality as settled (id, n)`
    const forgetter = createForgetter(database, 86_400)
    assert.deepEqual(await forgetter.round(), { forgotten: 100, more: false })
    const [left] =
      await sql`select count(*)::int as steps from fleet_q.steps where id = any (${ids}::bigint[])`
    assert.equal(left?.['steps'], 2400)
  })

  test('stops at its bound, and says that there is more', async () => {
    const ids = await addSteps(sql, await addLane(sql, { type: `t${count++}` }), 20_500)
    await sql`delete from fleet_q.outcomes`
    await sql`
      insert into fleet_q.outcomes (step_id, status, attempt, settled_at)
      select id, 'cancelled', 1, now() - interval '2 days' from unnest(${ids}::bigint[]) as settled (id)`
    const forgetter = createForgetter(database, 86_400)
    assert.deepEqual(await forgetter.round(), { forgotten: 20_000, more: true })
    assert.deepEqual(await forgetter.round(), { forgotten: 500, more: false })
  })

  test('forgets keys, cycles, terms and pods that ended, and none that something still hangs on', async () => {
    const gone = await addPod(sql)
    const holding = await addPod(sql)
    const leading = await addPod(sql)
    await sql`insert into fleet_q.claims (pod_id, step_ids, attempts) values (${holding}, '{1}', '{1}')`
    await sql`insert into fleet_q.leader_terms (pod_id, began_why) values (${leading}, 'the test says so')`
    for (const pod of [gone, holding, leading]) await killPod(sql, pod)
    await sql`update fleet_q.pods set ended_at = now() - interval '1 day' where status = 'dead'`
    // A ten-thousandth of a day, the least that may be set: no whole number of seconds.
    await database.run((tx) => forgetHistory(tx, 8.64, 1000))
    const left = await sql<
      { id: string }[]
    >`select id from fleet_q.pods where id in (${gone}, ${holding}, ${leading}) order by id`
    assert.deepEqual(
      left.map((row) => row.id),
      [holding, leading],
    )
  })
})

describe('an attempt that completed', () => {
  test('and is handed in as failed by a pod that never heard of its commit: it is no attempt that failed, and does not come back', async () => {
    const { podId, held } = await claimed(3)
    const [first] = held
    await database.run((tx) => settle(tx, podId, [reportOf(first)], []))
    const refused = await database.run((tx) => settle(tx, podId, [againOf(first, 0)], []))
    assert.deepEqual(
      refused.map(({ kind }) => kind),
      ['superseded'],
    )
    assert.equal((await sql`select from fleet_q.attempts where step_id = ${first.step_id}`).length, 0)
    assert.equal((await sql`select from fleet_q.ready where step_id = ${first.step_id}`).length, 0)
    assert.equal((await sql`select from fleet_q.later where step_id = ${first.step_id}`).length, 0)
  })
})

describe('a redrive', () => {
  test('that an old answer is sent again after: the step is ready, and does not end a second time', async () => {
    const { podId, held } = await claimed(3)
    const [first] = held
    const answer = failedOf(first)
    await database.run((tx) => settle(tx, podId, [answer], []))
    assert.equal(await redrive(database, [first.step_id], unnoted), 1)
    // The claim stands for the others of its batch; the answer to the first settle was lost on the way.
    const refused = await database.run((tx) => settle(tx, podId, [answer], []))
    assert.deepEqual(
      refused.map(({ kind }) => kind),
      ['superseded'],
    )
    assert.equal(await outcomeOf(first), undefined)
    assert.equal((await sql`select from fleet_q.ready where step_id = ${first.step_id}`).length, 1)
  })

  test('of a step that an exchange took before it was cancelled: it runs there, and nowhere else', async () => {
    const type = `t${count++}`
    const podId = await addPod(sql, [type])
    const lane = await addLane(sql, { type })
    const [step = ''] = await addSteps(sql, lane, 1)
    const taking = await openTransaction((tx) => exchange(tx, want(podId, { types: [type] }), [], []))
    assert.equal(claimedOf(taking.done).length, 1)
    await database.run((tx) => cancelSteps(tx, [step], 'the test says so'))
    const redriven = redrive(database, [step], unnoted)
    await isWaiting('step.unready')
    await taking.end('commit')
    await redriven
    const [places] = await sql`
      select (select count(*)::int from fleet_q.ready where step_id = ${step}) as ready,
        (select count(*)::int from fleet_q.claims where step_ids @> array[${step}::bigint]) as claims`
    assert.deepEqual({ ...places }, { ready: 0, claims: 1 })
  })

  test('takes a cancelled step out of its lane before it puts it in again', async () => {
    const lane = await addLane(sql, { type: `t${count++}` })
    const ids = await addSteps(sql, lane, 3)
    await database.run((tx) => cancelSteps(tx, ids.slice(1, 2), 'the test says so'))
    await redrive(database, ids, unnoted)
    const rows = await sql<{ step_id: string }[]>`
      select step_id from fleet_q.ready where lane_id = ${lane} order by position`
    assert.deepEqual(
      rows.map((row) => row.step_id),
      [ids[0], ids[2], ids[1]],
    )
    const removed = await database.run((tx) => removeFromReady(tx, [lane], ids))
    assert.equal(removed.count, 3)
  })
})
