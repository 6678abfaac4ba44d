import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect } from '../../src/db/connect.ts'
import { FleetError } from '../../src/errors.ts'
import { runCycle, type CycleSummary } from '../../src/recovery/run-cycle.ts'
import { settle, type Report } from '../../src/step/settle.sql.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'
import { assertSound } from './fleet.ts'
import { makeClaims, makePod, makeTerm } from './rows.ts'

const handleOn = (url: string, name: string) => {
  const database = connect({ url, name, max: 4, pooler: false, deadlineMs: 20_000 })
  atEnd(() => database.close())
  return database
}

/** Cycle after cycle, as leaders do, until one finds nothing; a cycle that another one runs is waited for. */
async function cyclesUntilNothing(options: Parameters<typeof runCycle>[0]): Promise<CycleSummary[]> {
  const all: CycleSummary[] = []
  for (;;) {
    try {
      const summary = await runCycle(options)
      all.push(summary)
      if (summary.orphaned === 0) return all
    } catch (error) {
      if (!(error instanceof FleetError && error.code === 'recovery_in_progress')) throw error
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }
}

const total = (cycles: CycleSummary[]) => cycles.reduce((sum, cycle) => sum + cycle.orphaned, 0)

test('two cycles at once in one term: one is told to wait, and what the dead held comes back once', async () => {
  const { url, sql } = await testDatabase()
  const leader = await makePod(sql)
  const term = await makeTerm(sql, leader)
  const dead = await Promise.all(Array.from({ length: 20 }, () => makePod(sql, { status: 'dead' })))
  const claims = await makeClaims(sql, dead, { claims: 200, perClaim: 5 })
  assert.equal(claims.length, 200)

  const handles = [handleOn(url, 'one'), handleOn(url, 'two')]
  const cycles = await Promise.all(
    handles.map((database) => cyclesUntilNothing({ database, podId: leader, term })),
  )
  assert.equal(total(cycles.flat()), 1000)
  const [row] = await sql`select count(*)::int as n, count(distinct step_id)::int as steps from fleet_q.ready`
  assert.deepEqual(row, { n: 1000, steps: 1000 })
  await assertSound(sql)
})

test('two leaders that both believe in their terms run cycles side by side: nothing is doubled, nothing lost', async (t) => {
  const { url, sql } = await testDatabase()
  // What the index is there to forbid, made all the same: correctness must not rest on it.
  await sql`drop index fleet_q.leader_terms_open`
  // A cycle of a pod that counts as dead is closed by the next: so the two do run at the same time.
  const zombie = await makePod(sql, { status: 'dead' })
  const leader = await makePod(sql)
  const [oldTerm, newTerm] = [await makeTerm(sql, zombie), await makeTerm(sql, leader)]
  const dead = await Promise.all(Array.from({ length: 20 }, () => makePod(sql, { status: 'dead' })))
  const gone = await Promise.all(Array.from({ length: 5 }, () => makePod(sql, { status: 'gone' })))
  await makeClaims(sql, [...dead, ...gone], { claims: 500, perClaim: 4 })

  const first = cyclesUntilNothing({ database: handleOn(url, 'zombie'), podId: zombie, term: oldTerm })
  await until('the first cycle to be under way', async () => {
    const [row] = await sql`select 1 from fleet_q.recovery_cycles where finished_at is null`
    return row
  })
  const second = cyclesUntilNothing({ database: handleOn(url, 'leader'), podId: leader, term: newTerm })
  const [byZombie, byLeader] = await Promise.all([first, second])

  assert.equal(total(byZombie) + total(byLeader), 2000, 'each step was put back by one of the two')
  const [row] = await sql`select count(*)::int as n, count(distinct step_id)::int as steps from fleet_q.ready`
  assert.deepEqual(row, { n: 2000, steps: 2000 })
  await assertSound(sql)
  t.diagnostic(`the two put back ${total(byZombie)} and ${total(byLeader)} steps`)
})

test('a leader whose term is over changes nothing more', async () => {
  const { database, sql } = await testDatabase()
  const leader = await makePod(sql)
  const term = await makeTerm(sql, leader)
  const dead = await makePod(sql, { status: 'dead' })
  const silent = await makePod(sql, { silentMs: 3_600_000 })
  await makePod(sql)
  await makeClaims(sql, [dead, silent], { claims: 2, perClaim: 3 })
  await sql`update fleet_q.leader_terms set ended_at = fleet_q.clock(), ended_why = 'made so'`

  const summary = await runCycle({ database, podId: leader, term })
  assert.deepEqual([summary.deadPods, summary.orphaned], [[], 0])
  const [row] = await sql`
    select (select count(*)::int from fleet_q.claims) as claims, (select count(*)::int from fleet_q.ready) as ready,
      (select status from fleet_q.pods where id = ${silent}) as silent`
  assert.deepEqual(row, { claims: 2, ready: 0, silent: 'live' })
})

test('answers of a dead pod that meet the cycles of two leaders: each step has its outcome, or comes back', async (t) => {
  const { url, sql } = await testDatabase()
  await sql`drop index fleet_q.leader_terms_open`
  const zombie = await makePod(sql, { status: 'dead' })
  const leader = await makePod(sql)
  const [oldTerm, newTerm] = [await makeTerm(sql, zombie), await makeTerm(sql, leader)]
  const dead = await makePod(sql)
  const claims = await makeClaims(sql, [dead], { claims: 600, perClaim: 4 })
  const reportOf = (claimId: string, stepId: string, how: 'completed' | 'failed'): Report => ({
    claimId,
    stepId,
    attempt: 1,
    outcome: how === 'completed' ? 'completed' : null,
    ended: how === 'completed' ? null : 'failed',
    result: null,
    error: null,
    startedMs: performance.now() - 1,
    delayMs: how === 'completed' ? null : 0,
    nextAttempt: how === 'completed' ? null : 2,
  })

  const pod = handleOn(url, 'late')
  let refused = 0
  async function answer(reports: Report[], ended: string[]) {
    const late = await pod.run((sql) => settle(sql, dead, reports, ended))
    refused += late.length
  }
  const shuffled = () => claims.toSorted(() => Math.random() - 0.5)
  const reportsOf = ({ id, step_ids }: (typeof claims)[number]) =>
    step_ids.map((stepId, i) => reportOf(id, stepId, i % 2 === 0 ? 'completed' : 'failed'))
  const half = (claim: (typeof claims)[number]) => answer(reportsOf(claim).slice(0, 2), [])
  const rest = (claim: (typeof claims)[number]) => answer(reportsOf(claim).slice(2), [claim.id])
  async function each(
    queue: (typeof claims)[number][],
    work: (claim: (typeof claims)[number]) => Promise<void>,
  ) {
    const worker = async () => {
      for (let claim = queue.pop(); claim; claim = queue.pop()) await work(claim)
    }
    await Promise.all([worker(), worker(), worker()])
  }
  // Most claims are half answered, some not at all, and some have ended.
  const begun = shuffled()
  const untouched = begun.splice(0, 100)
  await each([...begun], half)
  const answered = each([...begun, ...untouched], async (claim) => {
    if (untouched.includes(claim)) await half(claim)
    await rest(claim)
  })
  await until('some claims to end', async () => {
    const [row] = await sql<{ n: number }[]>`select count(*)::int as n from fleet_q.claims`
    return row && row.n < 500
  })
  // The moment from which on the two leaders and the pod itself are at odds.
  await sql`update fleet_q.pods set status = 'dead', ended_at = fleet_q.clock(), ended_why = 'made so' where id = ${dead}`
  const cycles = [
    { database: handleOn(url, 'zombie'), podId: zombie, term: oldTerm },
    { database: handleOn(url, 'leader'), podId: leader, term: newTerm },
  ]
  const [, ...summaries] = await Promise.all([answered, ...cycles.map(cyclesUntilNothing)])
  // What a settle in flight kept from the last cycle.
  await cyclesUntilNothing({ database: pod, podId: leader, term: newTerm })

  const [row] = await sql<{ settled: number; failed: number; died: number; claims: number }[]>`
    select (select count(*)::int from fleet_q.outcomes) as settled,
      (select count(*)::int from fleet_q.attempts where ended = 'failed') as failed,
      (select count(*)::int from fleet_q.attempts where ended = 'pod_died') as died,
      (select count(*)::int from fleet_q.claims) as claims`
  assert.ok(row)
  assert.equal(row.claims, 0)
  assert.equal(row.settled + row.failed + row.died, 2400, 'each step was answered for once')
  assert.equal(refused, row.died, 'every answer that came too late was refused')
  await assertSound(sql)
  t.diagnostic(
    `${row.settled + row.failed} answers in time, ${row.died} put back by ${summaries.map(total).join(' and ')}`,
  )
})

test('a batch of orphans is bounded by their steps: no transaction of a cycle grows with the pods that died', async () => {
  const { database, sql } = await testDatabase()
  const leader = await makePod(sql)
  const term = await makeTerm(sql, leader)
  const dead = await makePod(sql, { status: 'dead' })
  await makeClaims(sql, [dead], { claims: 6, perClaim: 6000 })
  assert.equal((await runCycle({ database, podId: leader, term })).orphaned, 36_000)
  // The time of an attempt's end is that of its transaction.
  const batches = await sql<{ n: number }[]>`
    select count(*)::int as n from fleet_q.attempts group by ended_at order by ended_at`
  assert.deepEqual(
    batches.map((batch) => batch.n),
    [12_000, 12_000, 12_000],
  )
  await assertSound(sql)
})

test('a cycle whose end could not be written does not keep its leader from the next one', async () => {
  const { database, sql } = await testDatabase()
  const leader = await makePod(sql)
  const term = await makeTerm(sql, leader)
  const dead = await makePod(sql, { status: 'dead' })
  // The database went away between the last batch of a cycle and its report; the leader itself lives on.
  await sql`insert into fleet_q.recovery_cycles (pod_id, term) values (${leader}, ${term})`
  await makeClaims(sql, [dead], { claims: 1, perClaim: 3 })
  assert.equal((await runCycle({ database, podId: leader, term })).orphaned, 3)
  const cycles = await sql<{ ended: boolean; error: string | null }[]>`
    select finished_at is not null as ended, error from fleet_q.recovery_cycles order by id`
  assert.deepEqual(
    cycles.map((cycle) => [cycle.ended, cycle.error !== null]),
    [
      [true, true],
      [true, false],
    ],
  )
})
