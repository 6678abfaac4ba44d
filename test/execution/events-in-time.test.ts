import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newCheckpoint, writeCheckpoints } from '../../src/execution/checkpoint.sql.ts'
import { redriveStep } from '../../src/step/redrive.ts'
import { answerWaits } from '../../src/step/wake.sql.ts'
import { addLane, addPod, addSteps } from '../sql/arrange.ts'
import { tester } from '../support/actor.ts'
import { testDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'

/** A wait gets the event that came before its limit, or is told that none came: one of the two. */

const { sql, database } = await testDatabase()
const pod = await addPod(sql)
const lane = await addLane(sql)

/** A claim, and an open wait for "go" whose limit was a minute ago. */
async function overdue(): Promise<{ step: string; claim: string }> {
  const [step = ''] = await addSteps(sql, lane, 1)
  const [row] = await sql<{ id: string }[]>`
    insert into fleet_q.claims (pod_id, step_ids, attempts) values (${pod}, ${[step]}::bigint[], '{1}') returning id`
  const claim = row?.id ?? ''
  await sql`
    insert into fleet_q.checkpoints (step_id, name, number, kind, after_turn, claim_id, due_at)
    values (${step}, 'go', 1, 'event', 0, ${claim}, now() - interval '1 minute')`
  return { step, claim }
}

const sentAgo = (step: string, ago: string) => sql`
  insert into fleet_q.events (step_id, name, payload, sent_at)
  values (${step}, 'go', '{"by": "ada"}', now() - ${ago}::interval)`

const waitOf = async (step: string) => {
  const [row] = await sql<{ arrived: boolean; result: unknown; error: unknown; turn: number | null }[]>`
    select arrived_at is not null as arrived, result, error, turn from fleet_q.checkpoints where step_id = ${step}`
  return { ...row }
}

const tellThatNoneCame = (step: string, claim: string) =>
  writeCheckpoints(sql, pod, [
    newCheckpoint({
      claimId: claim,
      stepId: step,
      name: 'go',
      number: 1,
      kind: 'event',
      after: 0,
      turn: 1,
      error: '{"class": "EventTimeout", "message": "go"}',
      mayStand: true,
    }),
  ])

test('an event that came before the limit is got, however late somebody looks', async () => {
  const { step } = await overdue()
  await sentAgo(step, '2 minutes')
  await answerWaits(sql, [step])
  assert.deepEqual(await waitOf(step), { arrived: true, result: { by: 'ada' }, error: null, turn: null })
})

test('an event that came after the limit is left for the next wait', async () => {
  const { step } = await overdue()
  await sentAgo(step, '10 seconds')
  await answerWaits(sql, [step])
  assert.equal((await waitOf(step)).arrived, false)
})

test('a wait that has got its event is not told that none came', async () => {
  const { step, claim } = await overdue()
  await sentAgo(step, '2 minutes')
  await answerWaits(sql, [step])
  assert.equal((await tellThatNoneCame(step, claim)).length, 0)
  assert.deepEqual(await waitOf(step), { arrived: true, result: { by: 'ada' }, error: null, turn: null })
})

test('a wait that was told so while an event was matched gets none, and the event is kept', async () => {
  const { step, claim } = await overdue()
  await sentAgo(step, '2 minutes')
  let told: () => void = () => {}
  const isTold = new Promise<void>((resolve) => (told = resolve))
  let commit: () => void = () => {}
  const mayCommit = new Promise<void>((resolve) => (commit = resolve))
  const telling = sql.begin(async (tx) => {
    await tx`select from fleet_q.claims where id = ${claim} for key share`
    await tx`
      update fleet_q.checkpoints set turn = 1, error = '{"class": "EventTimeout"}' where step_id = ${step}`
    told()
    await mayCommit
  })
  await isTold
  const matching = database.run((each) => answerWaits(each, [step]).then((rows) => [...rows]))
  await until('the match to wait for the limit', async () => {
    const [row] = await sql`
      select 1 from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock' and query like '%execution.answer%'`
    return row
  })
  commit()
  await telling
  assert.deepEqual(await matching, [])
  assert.equal((await waitOf(step)).arrived, false)
  const lying = await sql`select from fleet_q.events where step_id = ${step} and taken_by is null`
  assert.equal(lying.length, 1)
})

test('an execution that was undone and is tried again finds its events where they lay', async () => {
  const { step } = await overdue()
  await sentAgo(step, '2 minutes')
  await answerWaits(sql, [step])
  await sql`
    insert into fleet_q.checkpoints (step_id, name, number, kind, turn, after_turn, claim_id, error)
    values (${step}, '$failure', 1, 'failure', 1, 0, 0, '{}')`
  await sql`delete from fleet_q.claims where step_ids && ${[step]}::bigint[]`
  await sql`insert into fleet_q.outcomes (step_id, status, attempt) values (${step}, 'failed', 1)`
  const [row] = await sql<{ id: string }[]>`
    select fleet_q.step_public_id(id, salt, created_at) as id from fleet_q.steps where id = ${step}`
  await redriveStep(database, tester, row?.id ?? '', () => {})
  const left = await sql`select from fleet_q.checkpoints where step_id = ${step}`
  assert.equal(left.length, 0)
  const lying = await sql`select from fleet_q.events where step_id = ${step} and taken_by is null`
  assert.equal(lying.length, 1)
})
