import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { get } from '../support/http.ts'
import type { PodProcess } from '../support/processes.ts'
import { until } from '../support/until.ts'
import {
  allSettled,
  assertSound,
  endPods,
  heldBy,
  lifeOf,
  lives,
  outcomesSoFar,
  podRow,
  startPod,
  startPods,
  startsFile,
  submitMany,
} from './fleet.ts'

const STEPS = 10_000

/**
 * Freezes the pod while it holds something and kills it; gives back what it held. What it had sent before it froze a
 * busy server may take up after the freeze, so what it held is read when the last backend of the dead pod is gone.
 */
async function killHolding(sql: Parameters<typeof heldBy>[0], pod: PodProcess) {
  await until('the pod to be caught with steps in its hands', async () => {
    pod.signal('SIGSTOP')
    if ((await heldBy(sql, pod)).length > 0) return true
    pod.signal('SIGCONT')
    return undefined
  })
  pod.signal('SIGKILL')
  await until('its backends to end', async () => {
    const [row] = await sql<{ n: number }[]>`
      select count(*)::int as n from pg_stat_activity where application_name like ${`fleet-q %${pod.id.slice(-10)}`}`
    return row?.n === 0
  })
  const held = await heldBy(sql, pod)
  assert.ok(held.length > 0, 'it died with steps in its hands')
  return held
}

test('of three pods that work through 10,000 steps one is killed: none is lost, none ends twice', async (t) => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pods = await startPods(url, 3, { FLEET_Q_MAX_PARALLELISM: '25' })
  const [door, victim] = pods
  assert.ok(door && victim)
  const submittedAt = performance.now()
  const ids = await submitMany(door, STEPS, (n) => ({ type: 'polite', args: { file: file.path, ms: 2, n } }))

  await until('a third of the steps to end', async () => (await outcomesSoFar(sql)) > STEPS / 3)
  const killedAfter = await outcomesSoFar(sql)
  const held = await killHolding(sql, victim)
  await allSettled(sql)
  const tookMs = performance.now() - submittedAt

  const all = await lives(sql)
  assert.equal(all.length, STEPS)
  assert.deepEqual(
    all.map((life) => life.step_id).toSorted(),
    ids.toSorted(),
    'what was accepted is what is there',
  )
  assert.ok(
    all.every((life) => life.status === 'completed'),
    'every step has its one outcome',
  )
  await assertSound(sql)
  // On a busy machine a pod gives back what it had claimed ahead: that is no attempt.
  const again = all
    .map((life) => ({ ...life, before: life.before.filter((one) => one.ended !== 'released') }))
    .filter((life) => life.before.length > 0)
  assert.deepEqual(
    again.map((life) => life.step_id).toSorted(),
    held.toSorted(),
    'what was tried again is exactly what the killed pod held',
  )
  for (const life of again) {
    assert.deepEqual(life.before, [{ ended: 'pod_died', attempt: 1, pod: victim.id }])
    assert.equal(life.attempt, 2)
    assert.notEqual(life.pod, victim.id)
  }
  // Nobody started a step that the database does not know of.
  assert.ok(file.starts().length <= STEPS + held.length)
  assert.equal((await podRow(sql, victim)).status, 'dead')
  t.diagnostic(
    `killed after ${killedAfter} of ${STEPS}; it held ${held.length}; all settled in ${Math.round(tookMs)} ms`,
  )
  await endPods(...pods)
})

test('all pods are killed and one is started: it leads, and runs everything that they held', async (t) => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pods = await startPods(url, 3)
  const [door] = pods
  assert.ok(door)
  const ids = await submitMany(door, 24, (n) => ({
    type: 'long-at-first',
    args: { file: file.path, ms: 60_000, n },
  }))
  await until('all slots to be taken', () => file.started() === 24)
  for (const pod of pods) pod.signal('SIGKILL')
  await Promise.all(pods.map((pod) => pod.exited))

  const startedAt = performance.now()
  const heir = await startPod(url)
  await allSettled(sql)
  const tookMs = performance.now() - startedAt
  for (const life of await lives(sql, ids)) {
    assert.equal(life.pod, heir.id)
    assert.deepEqual(
      life.before.map(({ ended, attempt }) => ({ ended, attempt })),
      [{ ended: 'pod_died', attempt: 1 }],
    )
  }
  assert.equal((await get(heir.url, '/admin/leader')).body['current_leader'], heir.id)
  t.diagnostic(`24 orphans of three pods ran ${Math.round(tookMs)} ms after the fourth was up`)
  await assertSound(sql)
  await endPods(heir)
})

test('a step that may not be tried again is given up when its pod dies, and says why', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const [first, second] = await startPods(url, 2)
  assert.ok(first && second)
  const [once, twice] = await submitMany(first, 2, (n) => ({
    type: 'long-at-first',
    args: { file: file.path, ms: 60_000 },
    max_retries: n,
  }))
  assert.ok(once && twice)
  const starts = await until('both to run', () => file.started() === 2 && file.starts())
  const holders = [first, second].filter((pod) => starts.some(({ pid }) => pid === pod.pid))
  // They may have been taken by one pod or by one each: killed is who holds the step that has no second try.
  const victim = holders.find((pod) => starts.some(({ id, pid }) => id === once && pid === pod.pid))
  const heir = victim === first ? second : first
  assert.ok(victim)
  victim.signal('SIGKILL')

  const life = await until('the step to be given up', async () => {
    const seen = await lifeOf(sql, once)
    return seen.status === null ? undefined : seen
  })
  assert.deepEqual(
    { status: life.status, reason: life.reason, attempt: life.attempt, pod: life.pod, before: life.before },
    { status: 'failed', reason: 'dead_pod', attempt: 1, pod: victim.id, before: [] },
  )
  const { body } = await get(heir.url, `/status/${once}`)
  assert.match((body['error'] as { message: string }).message, /died while it held this step/)
  const letters = (await get(heir.url, '/admin/dead-letters')).body['dead_letters'] as { step_id: string }[]
  assert.deepEqual(
    letters.map((letter) => letter.step_id),
    [once],
  )
  assert.equal(file.starts(once).length, 1, 'it never started again')
  await endPods(heir)
})
