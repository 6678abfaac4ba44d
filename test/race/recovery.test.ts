import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Sql } from '../../src/db/connect.ts'
import { FleetError } from '../../src/errors.ts'
import { runCycle } from '../../src/recovery/run-cycle.ts'
import { redrive } from '../../src/step/redrive.ts'
import { exchange } from '../../src/step/exchange.sql.ts'
import { settle, type Report } from '../../src/step/settle.sql.ts'
import { assertSound } from '../recovery/fleet.ts'
import { makeClaims, makePod, makeTerm, type MadeClaim } from '../recovery/rows.ts'
import { handingIn, want } from '../sql/arrange.ts'
import { unnoted } from '../support/actor.ts'
import { testDatabase } from '../support/database.ts'

/** A settle in flight, a recovery cycle, a redrive and a late answer: in every order there is one outcome. */

const db = await testDatabase()
const leader = await makePod(db.sql)
const term = await makeTerm(db.sql, leader)

const report = (claim: MadeClaim, stepId: string, how: Partial<Report>): Report => ({
  claimId: claim.id,
  stepId,
  attempt: 1,
  outcome: null,
  ended: null,
  result: null,
  error: null,
  startedMs: performance.now() - 1,
  delayMs: null,
  nextAttempt: null,
  ...how,
})
const COMPLETED = { outcome: 'completed', result: '"mine"' } as const
const FAILED = { outcome: 'failed', ended: 'failed', error: '{"message":"mine"}' } as const
const RETRIED = { ended: 'failed', delayMs: 0, nextAttempt: 2 } as const
const LATER = { ended: 'retried', delayMs: 3_600_000, nextAttempt: 2 } as const
const RELEASED = { ended: 'released', delayMs: 0, nextAttempt: 1 } as const

const cycle = () =>
  runCycle({ database: db.database, podId: leader, term }).catch((error: unknown) => {
    if (error instanceof FleetError && error.code === 'recovery_in_progress') return undefined
    throw error
  })

async function claimOfDeadPod(maxRetries = 3) {
  const pod = await makePod(db.sql)
  const [claim] = await makeClaims(db.sql, [pod], { claims: 1, perClaim: 2, maxRetries })
  assert.ok(claim)
  await db.sql`update fleet_q.pods set status = 'dead', ended_at = now(), ended_why = 'made so' where id = ${pod}`
  return { pod, claim, stepIds: claim.step_ids }
}

const placesOf = (stepIds: string[]) => db.sql<{ place: string }[]>`
  select 'outcome ' || status as place from fleet_q.outcomes where step_id = any (${stepIds}::bigint[])
  union all select 'ready ' || attempt from fleet_q.ready where step_id = any (${stepIds}::bigint[])
  union all select 'later ' || attempt from fleet_q.later where step_id = any (${stepIds}::bigint[])
  union all select 'claimed' from fleet_q.claims where claims.step_ids && ${stepIds}::bigint[]
  order by 1`
const emptyTrays = () => db.sql`truncate fleet_q.ready, fleet_q.later`

class Undone extends Error {}

test('two cycles run while a settle is in flight: it counts if it commits, and the step comes back if it does not', async () => {
  const ways = [
    { how: COMPLETED, place: 'outcome completed' },
    { how: FAILED, place: 'outcome failed' },
    { how: RETRIED, place: 'ready 2' },
    { how: LATER, place: 'later 2' },
    { how: RELEASED, place: 'ready 1' },
  ]
  for (const { how, place } of ways)
    for (const endsClaim of [false, true])
      for (const commits of [true, false]) {
        const name = `${JSON.stringify(how)}, ${endsClaim ? 'the whole claim' : 'one of two'}, ${commits ? 'committed' : 'undone'}`
        const { pod, claim, stepIds } = await claimOfDeadPod()
        const [first = '', second = ''] = stepIds
        const reports = (endsClaim ? stepIds : [first]).map((stepId) => report(claim, stepId, how))
        await db.database
          .begin(async (tx) => {
            assert.deepEqual([...(await settle(tx, pod, reports, endsClaim ? [claim.id] : []))], [])
            const during = await Promise.all([cycle(), cycle()])
            assert.deepEqual(
              during.map((summary) => summary?.orphaned ?? 0),
              [0, 0],
              `${name}: a cycle took what a settle holds`,
            )
            if (!commits) throw new Undone()
          })
          .catch((error: unknown) => assert.ok(error instanceof Undone, String(error)))
        await Promise.all([cycle(), cycle()])
        await cycle()
        const settled = commits ? (endsClaim ? [place, place] : [place]) : []
        const back = commits ? (endsClaim ? [] : ['ready 2']) : ['ready 2', 'ready 2']
        assert.deepEqual(
          (await placesOf([first, second])).map((row) => row.place),
          [...settled, ...back].toSorted(),
          name,
        )
        await assertSound(db.sql)
        await emptyTrays()
        await db.sql`delete from fleet_q.steps where not exists (select from fleet_q.outcomes where step_id = id)`
      }
})

const refusedOf = async (pod: string) => {
  const [row] = await db.sql<{ refused: number }[]>`select refused::int from fleet_q.pods where id = ${pod}`
  return row?.refused
}
const claimNext = async (sql: Sql, podId: string) => {
  const rows = await exchange(sql, want(podId, { types: ['made'], limit: 1 }), [], [])
  const [claimed] = rows.filter((row) => row.kind === 'claimed')
  assert.ok(claimed, 'there was nothing to claim')
  return claimed
}

test('a dead letter that is tried again belongs to its new claim: every late answer to the old one is refused and counted', async () => {
  const { pod, claim, stepIds } = await claimOfDeadPod(0)
  const [stepId = ''] = stepIds
  const late = async (how: Partial<Report>, moment: string) => {
    const before = (await refusedOf(pod)) ?? 0
    const rows = await db.database.run((sql) => settle(sql, pod, [report(claim, stepId, how)], []))
    assert.deepEqual(
      rows.map(({ kind }) => kind),
      ['fenced'],
      moment,
    )
    assert.equal(await refusedOf(pod), before + 1, moment)
  }
  await cycle()
  assert.deepEqual([...(await placesOf([stepId]))], [{ place: 'outcome failed' }])
  await late(COMPLETED, 'while it is a dead letter')

  assert.equal(await redrive(db.database, [stepId], unnoted), 1)
  await late(COMPLETED, 'while it waits')
  await late(RETRIED, 'while it waits, with another attempt to come')

  const other = await makePod(db.sql)
  const next = await db.database.run((sql) => claimNext(sql, other))
  assert.equal(next.step_id, stepId)
  await late(COMPLETED, 'while another pod runs it')
  await late(FAILED, 'while another pod runs it')

  const mine = { ...report(claim, stepId, COMPLETED), claimId: next.claim_id, result: '"the other"' }
  assert.deepEqual([...(await db.database.run((sql) => settle(sql, other, [mine], [next.claim_id])))], [])
  await late(FAILED, 'after it has completed')
  const [outcome] =
    await db.sql`select status, pod_id, result from fleet_q.outcomes where step_id = ${stepId}`
  assert.deepEqual(outcome, { status: 'completed', pod_id: other, result: 'the other' })
  await emptyTrays()
})

test('an answer under a claim that is gone is refused, though its pod holds the step under another one', async () => {
  // Given back and taken again, all by one pod: an answer to the first run comes late, while the second one runs.
  const pod = await makePod(db.sql)
  const [claim] = await makeClaims(db.sql, [pod], { claims: 1, perClaim: 1 })
  assert.ok(claim)
  const [stepId = ''] = claim.step_ids
  const handIn = (made: Report, ended: string[]) => db.database.run((sql) => settle(sql, pod, [made], ended))
  assert.deepEqual([...(await handIn(report(claim, stepId, RELEASED), [claim.id]))], [])
  const next = await db.database.run((sql) => claimNext(sql, pod))
  assert.equal(next.step_id, stepId)

  const late = await handIn(report(claim, stepId, COMPLETED), [])
  assert.deepEqual(
    late.map(({ kind }) => kind),
    ['fenced'],
  )
  assert.deepEqual(
    (await placesOf([stepId])).map((row) => row.place),
    ['claimed'],
  )
  await handIn({ ...report(claim, stepId, COMPLETED), claimId: next.claim_id }, [next.claim_id])
  assert.deepEqual([...(await placesOf([stepId]))], [{ place: 'outcome completed' }])
})

test('a redrive against the last answer of a pod that still holds the step: it is tried again once, or not at all', async () => {
  let tried = 0
  const rounds = 40
  for (let round = 0; round < rounds; round++) {
    const pod = await makePod(db.sql)
    const [claim] = await makeClaims(db.sql, [pod], { claims: 1, perClaim: 1 })
    assert.ok(claim)
    const [stepId = ''] = claim.step_ids
    // Cancelled while it runs: its pod hands in what it can, while an operator wants it tried again.
    await db.sql`insert into fleet_q.outcomes (step_id, status, attempt) values (${stepId}, 'cancelled', 1)`
    const how = [COMPLETED, FAILED, RETRIED, LATER, RELEASED][round % 5] ?? COMPLETED
    const ends = () =>
      handingIn([report(claim, stepId, how)], (reports) =>
        db.database.run((sql) => settle(sql, pod, reports, round % 2 ? [claim.id] : [])),
      )
    const [changed] = await Promise.all([redrive(db.database, [stepId], unnoted), ends()])
    tried += changed
    if (round % 2 === 0) await db.database.run((sql) => settle(sql, pod, [], [claim.id]))
    const live = (await placesOf([stepId])).map((row) => row.place)
    if (changed === 1) assert.deepEqual(live, ['ready 1'], JSON.stringify(how))
    else {
      assert.ok(live.includes('outcome cancelled'), live.join())
      assert.equal(await redrive(db.database, [stepId], unnoted), 1)
      assert.deepEqual(
        (await placesOf([stepId])).map((row) => row.place),
        ['ready 1'],
        JSON.stringify(how),
      )
    }
    await emptyTrays()
  }
  assert.ok(tried > 0, 'the redrive never came after the answer')
})

test('a step that failed can be tried again at once, though others of its claim still run', async () => {
  const pod = await makePod(db.sql)
  const [claim] = await makeClaims(db.sql, [pod], { claims: 1, perClaim: 2, maxRetries: 0 })
  assert.ok(claim)
  const [failed = '', running = ''] = claim.step_ids
  await db.database.run((sql) => settle(sql, pod, [report(claim, failed, FAILED)], []))
  assert.equal(await redrive(db.database, [failed], unnoted), 1)
  assert.deepEqual(
    (await placesOf([failed])).map((row) => row.place),
    ['claimed', 'ready 1'],
  )

  // Its pod dies: what it held comes back, what it had handed in does not come a second time.
  await db.sql`update fleet_q.pods set status = 'dead', ended_at = now(), ended_why = 'made so' where id = ${pod}`
  await cycle()
  assert.deepEqual(
    (await placesOf([failed])).map((row) => row.place),
    ['ready 1'],
  )
  assert.deepEqual(
    (await placesOf([running])).map((row) => row.place),
    ['outcome failed'],
  )
  await emptyTrays()
})
