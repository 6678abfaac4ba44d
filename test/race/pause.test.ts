import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { defineStep } from '../../src/step/handler.ts'
import { claimsUnderWay } from '../../src/step/pause.ts'
import { testDatabase } from '../support/database.ts'
import { call, get, post, submit } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'
import { holdClaimsOf } from './hold.ts'

/** What a pause and a drain promise from the moment of their answer on, while claims are in flight. */

/** Quick, and slow enough for a load of a thousand to last a while. */
const quick = (type: string) => defineStep(type, {}, () => sleep(25))
const db = await testDatabase()
const TYPES = ['even', 'odd', 'held', 'dumped', 'drained']
const pods = [
  await startTestPod(db.url, TYPES.map(quick)),
  await startTestPod(db.url, TYPES.map(quick)),
  await startTestPod(db.url, []),
] as const
const [worker, , asked] = pods

/** Claims of a type that there are or were: by what they hold, and by what was handed in under them. */
const claimsOf = async (type: string) => {
  const rows = await db.sql<{ id: string }[]>`
    with ever as (
      select claims.id, held.step_id from fleet_q.claims, unnest(claims.step_ids) as held (step_id)
      union select claim_id, step_id from fleet_q.outcomes where claim_id is not null
      union select claim_id, step_id from fleet_q.attempts
    )
    select distinct ever.id from ever join fleet_q.steps on steps.id = ever.step_id
    join fleet_q.lanes on lanes.id = steps.lane_id where lanes.type = ${type}`
  return rows.map(({ id }) => id).toSorted()
}
const pending = async (type: string) => {
  const [row] = await db.sql<{ n: number }[]>`
    select count(*)::int as n from fleet_q.ready join fleet_q.lanes on lanes.id = lane_id where type = ${type}`
  return row?.n ?? 0
}
const many = (type: string, count: number) =>
  post(asked.url, '/submit/batch', { steps: Array.from({ length: count }, () => ({ type, args: {} })) })

test('after the answer of a pause no claim of the type comes any more, though claims were in flight all the time', async () => {
  await Promise.all([many('even', 1000), many('odd', 1000), many('odd', 1000)])
  for (let round = 0; round < 8; round++) {
    const before = await pending('odd')
    assert.equal((await post(asked.url, '/admin/pause', { type: 'odd' })).status, 200)
    const claims = await claimsOf('odd')
    const left = await pending('odd')
    assert.ok(
      left > 0 && (round === 0 || left <= before),
      `the load is over: round ${round}, ${before}, ${left}`,
    )
    await many('even', 20)
    await until('steps of another type to be run meanwhile', async () => (await pending('even')) === 0)
    assert.deepEqual(await claimsOf('odd'), claims, 'a claim came after the pause was answered')
    assert.equal(await pending('odd'), left)
    await post(asked.url, '/admin/resume', { type: 'odd' })
    await until('the type to go on', async () => (await pending('odd')) < left)
  }
  await until('all of it to be done', async () => (await pending('odd')) === 0)
})

test('a pause waits for a claim that has not seen it and is not committed yet', async () => {
  const held = await holdClaimsOf(db, worker)
  // Of the pods that handle it, the one that is held has to take it: the other one drains.
  await post(asked.url, `/admin/pods/${pods[1].id}/drain`)
  const id = await submit(asked.url, { type: 'held' })
  await held.caught()
  let answered = false
  const pausing = post(asked.url, '/admin/pause', { type: 'held' }).then((reply) => {
    answered = true
    return reply
  })
  await until('the pause to wait in line', async () => {
    const rows = await db.sql`
      select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
        and query like '%step.pause_alone%'`
    return rows.length > 0 || answered
  })
  assert.equal(answered, false, 'it answered while a claim of its type was under way')
  await held.release()
  assert.equal((await pausing).status, 200)
  const claims = await claimsOf('held')
  assert.equal(claims.length, 1)
  await until(
    'what was claimed before to go on',
    async () => (await get(asked.url, `/status/${id}`)).body['status'] === 'completed',
  )
  await submit(asked.url, { type: 'held' })
  await many('even', 20)
  await until('others to be run', async () => (await pending('even')) === 0)
  assert.deepEqual(await claimsOf('held'), claims)
  await post(asked.url, `/admin/pods/${pods[1].id}/drain`, { enabled: false })
})

test('a pause is not held up by somebody who reads the table for long, and holds for every claim that comes', async () => {
  await db.sql.begin(async (dump) => {
    await dump`lock table fleet_q.pauses in access share mode`
    const limitMs = 30_000
    const { status } = await call(asked.url, 'POST', '/admin/pause', { type: 'dumped' }, {}, limitMs)
    assert.equal(status, 200)
  })
  await submit(asked.url, { type: 'dumped' })
  await many('even', 20)
  await until('others to be run', async () => (await pending('even')) === 0)
  assert.deepEqual(await claimsOf('dumped'), [])
})

test('after the answer of a drain no claim of the pod comes any more, and what it holds it finishes', async () => {
  await many('drained', 1000)
  const ofPod = async () => {
    const rows = await db.sql<{ id: string }[]>`
      select distinct ever.id from (
        select id, pod_id from fleet_q.claims union select claim_id, pod_id from fleet_q.outcomes) as ever
      join fleet_q.pods on pods.id = ever.pod_id where public_id = ${worker.id}`
    return rows.map(({ id }) => id).toSorted()
  }
  const before = await ofPod()
  await until('the pod to take its share', async () => (await ofPod()).length > before.length + 3)
  assert.equal((await post(asked.url, `/admin/pods/${worker.id}/drain`)).status, 200)
  const claims = await ofPod()
  assert.ok((await pending('drained')) > 0, 'the load is over')
  await until('the rest to be done elsewhere', async () => {
    const [row] = await db.sql<{ n: number }[]>`
      select count(*)::int as n from fleet_q.outcomes join fleet_q.steps on steps.id = step_id
      join fleet_q.lanes on lanes.id = lane_id where type = 'drained' and status = 'completed'`
    return row?.n === 1000
  })
  assert.deepEqual(await ofPod(), claims)
  assert.equal((await db.sql`select 1 from fleet_q.claims`).length, 0)
})

test('a drain waits for a claim that has not seen it and is not committed yet', async () => {
  await post(asked.url, `/admin/pods/${pods[1].id}/drain`)
  await post(asked.url, `/admin/pods/${worker.id}/drain`, { enabled: false })
  const held = await holdClaimsOf(db, worker)
  await submit(asked.url, { type: 'even' })
  await held.caught()
  // The pod's row is what holds the claim here, and what a drain writes: so the wish is not written by the verb.
  let ended = false
  const waiting = claimsUnderWay(db.database).then(() => {
    ended = true
  })
  await until('it to wait in line', async () => {
    const rows = await db.sql`
      select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%step.pause_alone%'`
    return rows.length > 0 || ended
  })
  assert.equal(ended, false)
  await held.release()
  await waiting
})
