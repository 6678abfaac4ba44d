import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'
import {
  allSettled,
  assertSound,
  endOf,
  endPods,
  heldBy,
  leaderOf,
  lifeOf,
  lives,
  podRow,
  startPod,
  startPods,
  startsFile,
  submitMany,
  termsOf,
} from './fleet.ts'

/** Longer than it takes to freeze a pod, shorter than its threshold and the recovery together. */
const DEAF_MS = 2500

test('a leader that was frozen past its threshold comes back too late: refused, fenced, and leads no more', async (t) => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pods = await startPods(url, 2)
  const { pod: leader, term } = await leaderOf(sql)
  const frozen = pods.find((pod) => pod.id === leader)
  const heir = pods.find((pod) => pod.id !== leader)
  assert.ok(frozen && heir)
  const ids = await submitMany(heir, 16, (n) => ({ type: 'deaf', args: { file: file.path, ms: DEAF_MS, n } }))
  await until('both to have their hands full', () => file.started() === 16)
  const held = await heldBy(sql, frozen)
  frozen.signal('SIGSTOP')
  assert.equal(held.length, 8)

  await until('another pod to lead, and to take over what the frozen one holds', async () => {
    const now = await leaderOf(sql)
    return (
      now.pod === heir.id &&
      (await podRow(sql, frozen)).status === 'dead' &&
      (await heldBy(sql, frozen)).length === 0
    )
  })
  await until('its steps to run elsewhere', () => file.starts().length === 24)
  frozen.signal('SIGCONT')

  assert.deepEqual(await endOf(frozen), { code: 1, signal: null })
  const line = await frozen.saw('late answers were refused')
  assert.match(frozen.output(), /this pod was declared dead/)
  const row = await podRow(sql, frozen)
  assert.equal(row.refused, held.length, 'each late answer was counted')
  assert.equal(row.status, 'dead', 'a row that is dead never lives again')

  await allSettled(sql)
  for (const life of await lives(sql, ids)) {
    assert.equal(life.status, 'completed')
    assert.equal(life.pod, heir.id)
    assert.equal(life.result?.['pid'], heir.pid, 'the result is of the pod whose claim stood')
    assert.deepEqual(
      life.before,
      held.includes(life.step_id) ? [{ ended: 'pod_died', attempt: 1, pod: frozen.id }] : [],
    )
  }
  await assertSound(sql)
  const terms = await termsOf(sql, frozen)
  assert.deepEqual(
    terms.map((each) => [each.term, each.ended_why !== null]),
    [[term, true]],
    'it had one term, which is over',
  )
  assert.equal((await leaderOf(sql)).pod, heir.id)
  t.diagnostic(`${row.refused} late answers refused: ${line.slice(0, 200)}`)
  await endPods(heir)
})

test('a pod that is frozen and comes back within its threshold is not declared dead, and goes on', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pods = await startPods(url, 2, {
    FLEET_Q_HEARTBEAT_SECONDS: '0.7',
    FLEET_Q_DEAD_AFTER_SECONDS: '6',
    FLEET_Q_STALL_SECONDS: '6',
  })
  // Old enough to judge others: a leader that was born a moment ago declares nobody dead, whatever the threshold.
  await sql`update fleet_q.pods set born_at = born_at - interval '1 hour'`
  const { pod: leader } = await leaderOf(sql)
  const [judge, frozen] = [pods.find((pod) => pod.id === leader), pods.find((pod) => pod.id !== leader)]
  assert.ok(judge && frozen)
  const ids = await submitMany(judge, 16, (n) => ({ type: 'polite', args: { file: file.path, ms: 1500, n } }))
  await until('both to have their hands full', () => file.started() === 16)
  frozen.signal('SIGSTOP')
  await until('two of its heartbeats to be missed', async () => {
    const [row] = await sql`
      select 1 from fleet_q.pods where public_id = ${frozen.id} and beat_at < fleet_q.clock() - interval '2 s'`
    return row
  })
  frozen.signal('SIGCONT')
  await allSettled(sql)
  for (const life of await lives(sql, ids)) assert.deepEqual(life.before, [], 'nothing was taken from it')
  assert.equal((await podRow(sql, frozen)).status, 'live')
  assert.equal(file.starts().length, 16)
  await endPods(...pods)
})

test('a restarted pod of the same name is another one: what its former self answers late is refused', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const name = { FLEET_Q_POD_NAME: 'worker-0' }
  const former = await startPod(url, name)
  const ids = await submitMany(former, 4, (n) => ({
    type: 'deaf',
    args: { file: file.path, ms: DEAF_MS, n },
  }))
  await until('the former to hold them all', () => file.started() === 4)
  former.signal('SIGSTOP')
  const restarted = await startPod(url, name)
  assert.notEqual(restarted.id, former.id)
  const rows = await sql<{ name: string; n: number }[]>`
    select name, count(*)::int as n from fleet_q.pods group by name`
  assert.deepEqual([...rows], [{ name: 'worker-0', n: 2 }])

  await until('the restarted one to run them', () => file.starts().length === 8)
  former.signal('SIGCONT')
  assert.deepEqual(await endOf(former), { code: 1, signal: null })
  await allSettled(sql)
  for (const life of await lives(sql, ids)) {
    assert.equal(life.pod, restarted.id)
    assert.equal(life.result?.['pid'], restarted.pid)
    assert.deepEqual(life.before, [{ ended: 'pod_died', attempt: 1, pod: former.id }])
  }
  assert.equal((await podRow(sql, former)).refused, 4)
  assert.equal((await podRow(sql, restarted)).refused, 0)
  await assertSound(sql)
  await endPods(restarted)
})

test('a pod frozen between the writes of its handlers and their settles commits neither', async () => {
  const { url, sql } = await testDatabase()
  await sql`create table public.ledger (step_id text, attempt int, n int)`
  const file = startsFile()
  const frozen = await startPod(url)
  const [once, again] = await submitMany(frozen, 2, (n) => ({
    type: 'ledger',
    args: { file: file.path, ms: 1000 },
    max_retries: n,
  }))
  assert.ok(once && again)
  await until('both rows to be written, and not committed', async () => {
    const [row] = await sql<{ n: number }[]>`
      select count(*)::int as n from pg_stat_activity
      where datname = current_database() and state = 'idle in transaction' and query like '%public.ledger%'`
    return row?.n === 2
  })
  frozen.signal('SIGSTOP')
  const heir = await startPod(url)
  await until('one step to be completed elsewhere, the other to be given up', async () => {
    const [lost, done] = [await lifeOf(sql, once), await lifeOf(sql, again)]
    return lost.reason === 'dead_pod' && done.pod === heir.id
  })
  frozen.signal('SIGCONT')
  assert.deepEqual(await endOf(frozen), { code: 1, signal: null })
  const rows = await sql<{ step_id: string; attempt: number }[]>`select step_id, attempt from public.ledger`
  assert.deepEqual([...rows], [{ step_id: again, attempt: 2 }])
  assert.equal((await podRow(sql, frozen)).refused, 2)
  assert.equal((await lifeOf(sql, once)).status, 'failed')
  await assertSound(sql)
  await endPods(heir)
})
