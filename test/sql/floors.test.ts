import assert from 'node:assert/strict'
import { test } from 'node:test'
import postgres from 'postgres'
import { exchange } from '../../src/step/exchange.sql.ts'
import { raiseLaneFloors } from '../../src/step/raise-floors.ts'
import { until } from '../support/until.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { addLane, addPod, addSteps, claimedOf, reportOf, want } from './arrange.ts'

/** The floor of a lane: claims start there, so nothing may ever lie at or below it. */

const db = await testDatabase()
const { sql, database } = db
const aside = postgres(db.url, { max: 2, onnotice: () => {} })
atEnd(() => aside.end({ timeout: 1 }))

const floorOf = async (lane: number) => {
  const [row] = await sql<{ floor: string }[]>`select floor from fleet_q.lanes where id = ${lane}`
  return BigInt(row?.floor ?? 0)
}
const positionOf = async (stepId: string) => {
  const [row] = await sql<
    { position: string }[]
  >`select position from fleet_q.ready where step_id = ${stepId}`
  return BigInt(row?.position ?? 0)
}
async function entriesRead(tx: postgres.TransactionSql) {
  const [row] = await tx<{ entries: number }[]>`
    select pg_stat_get_xact_tuples_returned('fleet_q.ready_lane_position'::regclass)::int as entries`
  return row?.entries ?? Number.NaN
}
async function drain(podId: string, types: string[], limit: number) {
  const taken = claimedOf(await database.run((tx) => exchange(tx, want(podId, { types, limit }), [], [])))
  const reports = taken.map((step) => reportOf(step))
  const claims = [...new Set(taken.map((step) => step.claim_id))]
  await database.run((tx) => exchange(tx, want(podId, { types: [] }), reports, claims))
  return taken
}

test('a floor rises behind what was taken, and stays below what waits', async () => {
  const lane = await addLane(sql, { type: 'rises' })
  const podId = await addPod(sql, ['rises'])
  await addSteps(sql, lane, 5000)
  await drain(podId, ['rises'], 3000)
  const [head] = await sql<{ position: string }[]>`
    select min(position) as position from fleet_q.ready where lane_id = ${lane}`
  const lowest = BigInt(head?.position ?? 0)
  // Other databases of the server have transactions under way as well.
  await until('the floor to rise', async () => {
    await raiseLaneFloors(database)
    return (await floorOf(lane)) === lowest - 1n
  })
  assert.equal((await drain(podId, ['rises'], 5000)).length, 2000)
})

test('a step whose submit commits late is claimed, however many rounds of the leader have passed', async () => {
  const lane = await addLane(sql, { type: 'late' })
  const podId = await addPod(sql, ['late'])
  let commit: () => void = () => {}
  const held = new Promise<void>((resolve) => (commit = resolve))
  let submitted: (id: string) => void = () => {}
  const isSubmitted = new Promise<string>((resolve) => (submitted = resolve))
  const late = aside.begin(async (tx) => {
    const [row] = await tx<{ key: string }[]>`select fleet_q.step_key(fleet_q.submit('late')) as key`
    submitted(row?.key ?? '')
    await held
  })
  const stepId = await isSubmitted
  await addSteps(sql, lane, 3000)
  await drain(podId, ['late'], 3000)
  for (let round = 0; round < 4; round++) await raiseLaneFloors(database)
  commit()
  await late
  assert.ok((await floorOf(lane)) < (await positionOf(stepId)))
  assert.deepEqual(
    (await drain(podId, ['late'], 10)).map((step) => step.step_id),
    [stepId],
  )
})

test('a reader that holds back the horizon does not hold floors; a claim then walks no dead end', async () => {
  const lane = await addLane(sql, { type: 'pinned' })
  const podId = await addPod(sql, ['pinned'])
  await addSteps(sql, lane, 20_000)
  await aside.begin('isolation level repeatable read', async (snapshot) => {
    await snapshot`select count(*) from fleet_q.ready`
    await drain(podId, ['pinned'], 20_000)
    const [drawn] = await sql<{ last: string }[]>`select last_value as last from fleet_q.positions`
    await until('the floor to rise', async () => {
      await raiseLaneFloors(database)
      return (await floorOf(lane)) >= BigInt(drawn?.last ?? 0)
    })
    const [step = ''] = await addSteps(sql, lane, 1)
    const read = await sql.begin(async (tx) => {
      // What earlier transactions of this connection read and have not told the server yet is counted with it.
      const before = await entriesRead(tx)
      const taken = claimedOf(await exchange(tx, want(podId, { types: ['pinned'], limit: 10 }), [], []))
      assert.deepEqual(
        taken.map(({ step_id }) => step_id),
        [step],
      )
      return (await entriesRead(tx)) - before
    })
    assert.ok(read <= 1000, `${read} entries were read`)
  })
})

test('what was given back lies before every floor, and is taken first', async () => {
  const lane = await addLane(sql, { type: 'back' })
  const podId = await addPod(sql, ['back'])
  const [first = ''] = await addSteps(sql, lane, 3000)
  const [taken] = claimedOf(
    await database.run((tx) => exchange(tx, want(podId, { types: ['back'], limit: 1 }), [], [])),
  )
  assert.ok(taken)
  await drain(podId, ['back'], 2900)
  await raiseLaneFloors(database)
  await raiseLaneFloors(database)
  const released = reportOf(taken, {
    outcome: null,
    ended: 'released',
    result: null,
    delayMs: 0,
    nextAttempt: 1,
  })
  await database.run((tx) => exchange(tx, want(podId, { types: [] }), [released], [taken.claim_id]))
  assert.equal((await drain(podId, ['back'], 5))[0]?.step_id, first)
})
