import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newCheckpoint, writeCheckpoints, type NewCheckpoint } from '../../src/execution/checkpoint.sql.ts'
import { createSubmitChildren } from '../../src/execution/submit-children.ts'
import type { ClaimedStep } from '../../src/step/claim.sql.ts'
import { exchange } from '../../src/step/exchange.sql.ts'
import { settle } from '../../src/step/settle.sql.ts'
import { createSubmitter } from '../../src/step/submit.ts'
import { addLane, addPod, addSteps, againOf, claimedOf, want } from '../sql/arrange.ts'
import { testDatabase } from '../support/database.ts'

/** Who may write what an execution remembers: the attempt that holds it, and nobody after that. */

const { sql, database } = await testDatabase()
const lane = await addLane(sql)

/** An execution under a claim that stands for another step too. */
async function holdOne(): Promise<{ pod: string; step: ClaimedStep }> {
  const pod = await addPod(sql)
  await addSteps(sql, lane, 2)
  const [step] = claimedOf(await exchange(sql, want(pod, { limit: 2 }), [], []))
  assert.ok(step)
  return { pod, step }
}

/** As a pod takes it that holds it now. */
async function claimAnew(pod: string, { step_id }: ClaimedStep): Promise<string> {
  const [row] = await sql<{ id: string }[]>`
    insert into fleet_q.claims (pod_id, step_ids, attempts) values (${pod}, ${[step_id]}::bigint[], '{2}') returning id`
  return row?.id ?? ''
}

type Fields = Partial<NewCheckpoint>

const write = (pod: string, { claim_id, step_id }: ClaimedStep, fields: Fields) =>
  writeCheckpoints(sql, pod, [
    newCheckpoint({
      claimId: claim_id,
      stepId: step_id,
      name: 'charge',
      number: 1,
      kind: 'run',
      after: 0,
      mayStand: false,
      turn: 1,
      result: '"first"',
      ...fields,
    }),
  ])

const resultsOf = async ({ step_id }: ClaimedStep) => {
  const rows = await sql<{ result: unknown }[]>`
    select result from fleet_q.checkpoints where step_id = ${step_id} order by name, number`
  return rows.map((row) => row.result)
}

test('under a claim that is gone no checkpoint is written, and none under the claim of another pod', async () => {
  const { pod, step } = await holdOne()
  assert.equal((await write(await addPod(sql), step, {})).length, 0)
  await sql`delete from fleet_q.claims where id = ${step.claim_id}`
  assert.equal((await write(pod, step, {})).length, 0)
  assert.deepEqual(await resultsOf(step), [])
})

test('an attempt that is handed in writes no checkpoint, though its claim stands for another step', async () => {
  const { pod, step } = await holdOne()
  await settle(sql, pod, [againOf(step, 0)], [])
  assert.equal((await write(pod, step, {})).length, 0)
  assert.deepEqual(await resultsOf(step), [])
})

test('a result that was accepted is changed by no later claim', async () => {
  const { pod, step } = await holdOne()
  assert.equal((await write(pod, step, {})).length, 1)
  const later = await claimAnew(pod, step)
  const second = await write(pod, { ...step, claim_id: later }, { result: '"second"', mayStand: true })
  assert.equal(second.length, 0)
  assert.deepEqual(await resultsOf(step), ['first'])
})

test('written again because its answer was lost, a result says the same: the time that was remembered too', async () => {
  const { pod, step } = await holdOne()
  const [first] = await write(pod, step, { kind: 'now', result: null })
  const [before] = await resultsOf(step)
  const [again] = await write(pod, step, { kind: 'now', result: null, mayStand: true })
  assert.deepEqual(again?.at, first?.at)
  assert.deepEqual(await resultsOf(step), [before])
})

test('a child is found again by the attempt after the one that submitted it and died, and submitted by no dead one', async () => {
  const { pod, step } = await holdOne()
  const submitter = createSubmitter({
    database,
    shared: database,
    callBehind() {},
    onSubmitted() {},
    onReplaced() {},
  })
  const submitChildren = createSubmitChildren((wishes, key, as) => submitter.submit(wishes, key, as))
  const submit = async (claimId: string, number: number) =>
    (await submitChildren({ id: step.step_id, claimId }, { name: 'child', number }, [{ type: 'a' }]))[0]
  const child = await submit(step.claim_id, 1)
  const later = await claimAnew(pod, step)
  await sql`delete from fleet_q.claims where id = ${step.claim_id}`
  assert.equal(await submit(later, 1), child)
  assert.notEqual(await submit(later, 2), child)
  await assert.rejects(submit(step.claim_id, 3), /This attempt is over/)
  const children = await sql`select from fleet_q.steps where parent_id = ${step.step_id}`
  assert.equal(children.length, 2)
})
