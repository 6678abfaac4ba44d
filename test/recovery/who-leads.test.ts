import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLog } from '../../src/kernel/log.ts'
import { createLeadership } from '../../src/leader/lead.ts'
import { beatHeart, type Beat } from '../../src/pod/pod.sql.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'
import { leaderOf } from './fleet.ts'
import { makePod, makeTerm } from './rows.ts'

const { sql, database } = await testDatabase()

const beatOf = async (podId: string): Promise<Beat> => {
  const [beat] = await beatHeart(sql, { id: podId, heartbeatMs: 5000, running: 0, stuck: 0 })
  assert.ok(beat)
  return beat
}

function candidate(podId: string) {
  const leadership = createLeadership({
    database,
    podId,
    eligible: true,
    // No round but those that it is rung for: what is tested is what a heartbeat does.
    roundMs: 3_600_000,
    chores: [],
    log: silentLog(),
    lookAgainIn() {},
    onChange() {},
  })
  leadership.loop.start()
  atEnd(() => leadership.loop.stop())
  return leadership
}

test('news that is older than its own accession does not unseat a leader, newer news does', async () => {
  const [silent, podId] = [await makePod(sql, { silentMs: 60_000 }), await makePod(sql, { ageMs: 1000 })]
  const former = await makeTerm(sql, silent)
  const leadership = candidate(podId)
  // Two heartbeats in quick succession, as when two timers wait for the same pod to fall silent: both are asked while
  // the former leader's term is open, and the second is heard after this pod has taken over.
  const [first, late] = [await beatOf(podId), await beatOf(podId)]
  leadership.onBeat(first)
  const term = await until('it to lead', () => leadership.term)
  assert.ok(BigInt(term) > BigInt(former))
  leadership.onBeat(late)
  assert.equal(leadership.term, term, 'it would have done nothing until its next heartbeat')

  const elder = await makePod(sql)
  await sql`update fleet_q.leader_terms set ended_at = fleet_q.clock(), ended_why = 'made so' where term = ${term}`
  await makeTerm(sql, elder)
  leadership.onBeat(await beatOf(podId))
  assert.equal(leadership.term, undefined)
  await sql`update fleet_q.pods set status = 'dead', ended_at = fleet_q.clock(), ended_why = 'made so'`
  await sql`update fleet_q.leader_terms set ended_at = fleet_q.clock(), ended_why = 'made so' where ended_at is null`
})

test('the oldest living pod leads, and takes over from a younger one', async () => {
  const [elder, younger] = [await makePod(sql, { ageMs: 2000 }), await makePod(sql, { ageMs: 1000 })]
  const [second, first] = [candidate(younger), candidate(elder)]
  await sql`update fleet_q.pods set leader_eligible = false where id = ${elder}`
  second.onBeat(await beatOf(younger))
  await until('the younger to lead while it may alone', () => second.term)
  await sql`update fleet_q.pods set leader_eligible = true where id = ${elder}`
  first.onBeat(await beatOf(elder))
  const term = await until('the elder to lead', () => first.term)
  second.onBeat(await beatOf(younger))
  assert.equal(second.term, undefined)
  assert.equal((await leaderOf(sql)).term, term)
})
