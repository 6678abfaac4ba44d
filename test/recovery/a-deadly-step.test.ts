import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { get, post, submit } from '../support/http.ts'
import { until } from '../support/until.ts'
import {
  allSettled,
  assertSound,
  endOf,
  endPods,
  heldBy,
  lifeOf,
  lives,
  podRow,
  startPod,
  startPods,
  startsFile,
  submitMany,
} from './fleet.ts'

test('a step that ends its process three times is poison; its neighbours complete', async (t) => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const first = await startPod(url)
  const neighbours = 7
  const ids = await submitMany(first, neighbours + 1, (n) => ({
    type: n === neighbours ? 'exiting' : 'long-at-first',
    args: { file: file.path, ms: 60_000, n },
    max_retries: 5,
  }))
  const killer = ids[neighbours] ?? ''
  assert.deepEqual(await endOf(first), { code: 9, signal: null })
  const startedAt = performance.now()
  // One slot each: from now on the killer has no neighbours. How a step that killed two pods is parted from its
  // neighbours is chance, and has a test of its own.
  const heirs = await startPods(url, 3, { FLEET_Q_MAX_PARALLELISM: '1' })
  await allSettled(sql)

  const life = await lifeOf(sql, killer)
  assert.deepEqual([life.status, life.reason, life.attempt], ['failed', 'poison', 3])
  assert.deepEqual(
    life.before.map((each) => [each.ended, each.attempt]),
    [
      ['pod_died', 1],
      ['pod_died', 2],
    ],
  )
  assert.equal(new Set(file.starts(killer).map(({ pid }) => pid)).size, 3)
  for (const neighbour of await lives(sql, ids.slice(0, neighbours))) {
    assert.deepEqual([neighbour.status, neighbour.attempt], ['completed', 2])
    assert.deepEqual(neighbour.before, [{ ended: 'pod_died', attempt: 1, pod: first.id }])
  }
  const alive = heirs.filter((pod) => pod.child.exitCode === null)
  assert.equal(alive.length, 1)
  t.diagnostic(
    `poison and all neighbours done ${((performance.now() - startedAt) / 1000).toFixed(1)} s after the first death`,
  )
  await assertSound(sql)
  await endPods(...alive)
})

for (const [type, what] of [
  ['timer-throws', 'that throws in a timer'],
  ['throws-on-and-on', 'that throws in an interval, again and again,'],
] as const)
  test(`a step ${what} fails; its neighbours are given back unburnt, and its pod ends`, async () => {
    const { url, sql } = await testDatabase()
    const file = startsFile()
    const pod = await startPod(url)
    const ids = await submitMany(pod, 5, (n) => ({
      type: n === 4 ? type : n === 3 ? 'deaf' : 'polite',
      args: { file: file.path, ms: 60_000, n },
      max_retries: 0,
    }))
    assert.deepEqual(await endOf(pod), { code: 1, signal: null })
    const [guilty, ...innocent] = (await lives(sql, ids)).toReversed()
    assert.deepEqual([guilty?.status, guilty?.reason, guilty?.attempt], ['failed', 'exhausted', 1])
    for (const neighbour of innocent)
      assert.deepEqual(
        [neighbour.status, neighbour.before],
        [null, [{ ended: 'released', attempt: 1, pod: pod.id }]],
      )
    const row = await podRow(sql, pod)
    assert.deepEqual([row.status, row.ended_why], ['gone', 'an exception that nobody caught'])

    const heir = await startPod(url)
    await until(
      'the neighbours to run elsewhere',
      () => file.starts().filter(({ pid }) => pid === heir.pid).length === 4,
    )
    assert.ok(file.starts().every(({ attempt }) => attempt === 1))
    assert.match(
      ((await get(heir.url, `/status/${ids[4]}`)).body['error'] as { message: string }).message,
      /thrown in an? (timer|interval)/,
    )
    assert.equal((await heldBy(sql, heir)).length, 4)
    await endPods(heir)
    await assertSound(sql)
  })

test('a step that throws what cannot be described fails, and harms nobody', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pod = await startPod(url)
  const [neighbour, id] = await submitMany(pod, 2, (n) => ({
    type: n === 0 ? 'polite' : 'throws-the-unspeakable',
    args: { file: file.path, ms: 500 },
    max_retries: 0,
  }))
  await allSettled(sql)
  const life = await lifeOf(sql, id ?? '')
  assert.deepEqual([life.status, life.reason, life.attempt], ['failed', 'exhausted', 1])
  const other = await lifeOf(sql, neighbour ?? '')
  assert.deepEqual([other.status, other.before], ['completed', []])
  assert.equal((await post(pod.url, '/submit', { type: 'polite', args: {} })).status, 201)
  await endPods(pod)
})

test('a step that throws in a timer of three pods is poison, however often it may be tried', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pods = await startPods(url, 4)
  const [door] = pods
  assert.ok(door)
  const id = await submit(door.url, {
    type: 'timer-throws',
    args: { file: file.path },
    max_retries: 100,
    retry: { strategy: 'fixed', base_ms: 10 },
  })
  await allSettled(sql)
  const life = await lifeOf(sql, id)
  assert.deepEqual([life.status, life.reason, life.attempt], ['failed', 'poison', 3])
  assert.deepEqual(
    life.before.map((each) => each.ended),
    ['pod_died', 'pod_died'],
  )
  const killed = pods.filter((pod) => [...life.before.map((each) => each.pod), life.pod].includes(pod.id))
  assert.equal(killed.length, 3)
  for (const pod of killed) assert.deepEqual(await endOf(pod), { code: 1, signal: null })
  await assertSound(sql)
  await endPods(...pods)
})
