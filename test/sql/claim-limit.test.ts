import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import postgres from 'postgres'
import { cancelSteps } from '../../src/step/cancel.sql.ts'
import { takeTurns, type Turn } from '../../src/step/circle.ts'
import { type ClaimedStep, type Want } from '../../src/step/claim.sql.ts'
import { exchange } from '../../src/step/exchange.sql.ts'
import { settle } from '../../src/step/settle.sql.ts'
import { putBack, takeOrphanClaims } from '../../src/recovery/recovery.sql.ts'
import { addPause } from '../../src/step/queue.sql.ts'
import { stopAutovacuum } from '../support/backlog.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase, type TestDatabase } from '../support/database.ts'
import { addLane, addPod, addSteps, claimedOf, killPod, reportOf, want } from './arrange.ts'

/** Every way of planning that a planner can be kept from; Postgres 14 knows them all. */
const WAYS = [
  'hashjoin',
  'mergejoin',
  'nestloop',
  'hashagg',
  'sort',
  'incremental_sort',
  'material',
  'memoize',
  'indexscan',
  'indexonlyscan',
  'bitmapscan',
  'seqscan',
  'tidscan',
]

const limited = await testDatabase()
const crowded = await testDatabase()
const ordered = await testDatabase()

describe('a claim takes what it may, and never more', () => {
  const LIMIT = 7
  const session = postgres(limited.url, { max: 1, onnotice: () => {} })
  atEnd(() => session.end({ timeout: 1 }))
  let podId = ''

  /** Statistics of an empty table, and then a backlog: what made `IN (SELECT ... LIMIT 1)` take 501. */
  const arrange = async () => {
    await stopAutovacuum(limited.sql)
    podId = await addPod(limited.sql)
    await limited.sql.unsafe('vacuum analyze')
    for (const key of ['one', 'two', 'three'])
      await addSteps(limited.sql, await addLane(limited.sql, { key }), 1500)
  }
  let arranged: Promise<void> | undefined

  /** Claims once, planned anew under these settings; tells how many, and holds the tables against the answer. */
  async function claimOnce(off: string[], cache: 'force_generic_plan' | 'force_custom_plan') {
    await (arranged ??= arrange())
    await session.unsafe(`
      ${WAYS.map((way) => `set enable_${way} = ${off.includes(way) ? 'off' : 'on'};`).join('')}
      set plan_cache_mode = ${cache}; discard plans`)
    const [earlier] = await session<{ lying: number }[]>`select count(*)::int as lying from fleet_q.ready`
    const claimed = claimedOf(await exchange(session, want(podId, { limit: LIMIT }), [], []))
    const [later] = await session<{ lying: number; held: number }[]>`
      select count(*)::int as lying, (select sum(cardinality(step_ids))::int from fleet_q.claims) as held
      from fleet_q.ready`
    assert.equal(new Set(claimed.map((step) => step.step_id)).size, claimed.length)
    assert.equal((earlier?.lying ?? 0) - (later?.lying ?? 0), claimed.length, 'what left the tray was told')
    assert.equal(later?.held, claimed.length, 'what was told is held')
    // Put back as they lay, so that every way of planning finds the same backlog.
    await session`
      with gone as (delete from fleet_q.claims)
      insert into fleet_q.ready (lane_id, position, step_id, attempt)
      select * from unnest(
        ${claimed.map((step) => step.lane_id)}::int[], ${claimed.map((step) => step.position)}::bigint[],
        ${claimed.map((step) => step.step_id)}::bigint[], ${claimed.map((step) => step.attempt)}::smallint[])`
    return claimed.length
  }

  for (const cache of ['force_generic_plan', 'force_custom_plan'] as const) {
    test(`with each way of planning kept from the planner, ${cache}`, async () => {
      assert.equal(await claimOnce([], cache), LIMIT)
      for (const way of WAYS) assert.equal(await claimOnce([way], cache), LIMIT, way)
      for (const way of WAYS)
        assert.equal(
          await claimOnce(
            WAYS.filter((other) => other !== way),
            cache,
          ),
          LIMIT,
          way,
        )
      assert.equal(await claimOnce(WAYS, cache), LIMIT)
    })

    test(`with any two ways kept from the planner, ${cache}`, async () => {
      for (const [n, one] of WAYS.entries())
        for (const other of WAYS.slice(n + 1))
          assert.equal(await claimOnce([one, other], cache), LIMIT, `${one} ${other}`)
    })
  }

  test('with any mixture of them', async () => {
    // Every one of 2^13 mixtures would take minutes; a stride that shares no factor with it visits all kinds.
    for (let n = 0, mixture = 5; n < 120; n++, mixture = (mixture + 2741) % 2 ** WAYS.length) {
      const off = WAYS.filter((_, bit) => mixture & (1 << bit))
      assert.equal(
        await claimOnce(off, n % 2 ? 'force_generic_plan' : 'force_custom_plan'),
        LIMIT,
        off.join(' '),
      )
    }
  })

  test('a claim of one, of none that lie there, and of more than lie there', async () => {
    await (arranged ??= arrange())
    const take = async (over: Partial<Want>) =>
      claimedOf(await exchange(session, want(podId, over), [], [])).length
    assert.equal(await take({ limit: 1 }), 1)
    assert.equal(await take({ types: ['nobody submits'] }), 0)
    assert.equal(await take({ types: [] }), 0)
    assert.equal(await take({ limit: 10_000 }), 4499)
    assert.equal(await take({}), 0)
  })
})

test('four pods that claim 300 times each, ten at a time, never take a step twice, and leave none behind', async () => {
  for (const key of ['one', 'two', 'three'])
    await addSteps(crowded.sql, await addLane(crowded.sql, { key }), 4000)

  /** As a pod works: hands in what it has, and takes more. */
  async function claimTimes(times: number): Promise<string[]> {
    const podId = await addPod(crowded.sql)
    const mine: string[] = []
    let last: ClaimedStep[] = []
    let turns: readonly Turn[] = []
    for (let n = 0; n < times; n++) {
      const reports = last.map((step) => reportOf(step))
      const ended = [...new Set(last.map((step) => step.claim_id))]
      const wish = want(podId, { turns })
      last = claimedOf(await crowded.database.run((sql) => exchange(sql, wish, reports, ended)))
      turns = takeTurns(turns, last)
      assert.ok(last.length <= 10)
      mine.push(...last.map((step) => step.step_id))
    }
    return mine
  }

  const sideBySide = await Promise.all([1, 2, 3, 4].map(() => claimTimes(300)))
  // SKIP LOCKED leaves a claim short while the others hold what it looks at.
  const [left] = await crowded.sql<{ steps: number }[]>`select count(*)::int as steps from fleet_q.ready`
  const after = await claimTimes(Math.ceil((left?.steps ?? 0) / 10) + 1)
  const ids = [...sideBySide.flat(), ...after]
  assert.equal(new Set(ids).size, ids.length)
  assert.equal(ids.length, 12_000)
})

describe('the order of a claim', () => {
  /** Lanes and steps of this test alone: its types are its own. */
  let count = 0
  async function arrange({ sql }: TestDatabase) {
    const type = `t${count++}`
    const podId = await addPod(sql, [type])
    const lane = (priority = 0, key = '') => addLane(sql, { type, priority, key })
    const take = async (over: Partial<Want> = {}) =>
      claimedOf(
        await ordered.database.run((db) => exchange(db, want(podId, { types: [type], ...over }), [], [])),
      )
    return { type, podId, sql, lane, take }
  }
  const idsOf = (steps: ClaimedStep[]) => steps.map((step) => step.step_id)

  test('a lane of higher priority is emptied before a lower one is touched, and each is first in, first out', async () => {
    const { sql, lane, take } = await arrange(ordered)
    const low = await addSteps(sql, await lane(-5), 6)
    const high = await addSteps(sql, await lane(1000), 3)
    const plain = await addSteps(sql, await lane(0), 6)
    assert.deepEqual(idsOf(await take({ limit: 5 })), [...high, ...plain.slice(0, 2)])
    assert.deepEqual(idsOf(await take({ limit: 5 })), [...plain.slice(2), low[0]])
    assert.deepEqual(idsOf(await take()), low.slice(1))
  })

  test('lanes of one priority take turns, whatever lies in each', async () => {
    const { sql, lane, take } = await arrange(ordered)
    const lanes = [await lane(0, 'a'), await lane(0, 'b'), await lane(0, 'c')]
    const [a = 0, b = 0, c = 0] = lanes
    await addSteps(sql, a, 100)
    await addSteps(sql, b, 4)
    await addSteps(sql, c, 100)
    const served: number[][] = []
    let turns: readonly Turn[] = []
    for (let n = 0; n < 5; n++) {
      const steps = await take({ turns })
      turns = takeTurns(turns, steps)
      served.push([...new Set(steps.map((step) => step.lane_id))].toSorted((x, y) => x - y))
    }
    assert.deepEqual(served, [[a], [b, c], [a], [c], [a]])
  })

  test('and keep their turns while steps of a higher priority come in between', async () => {
    const { sql, lane, take } = await arrange(ordered)
    const [a, b, high] = [await lane(0, 'a'), await lane(0, 'b'), await lane(5)]
    await addSteps(sql, a, 10)
    await addSteps(sql, b, 10)
    const served: number[] = []
    let turns: readonly Turn[] = []
    for (let n = 0; n < 8; n++) {
      if (n % 2 === 1) await addSteps(sql, high, 1)
      const steps = await take({ turns, limit: 1 })
      turns = takeTurns(turns, steps)
      served.push(...steps.map((step) => step.lane_id))
    }
    assert.deepEqual(served, [a, high, b, high, a, high, b, high])
  })

  test('what is paused is passed over: its type, its key, or a key of its type, until its time', async () => {
    const { type, sql, lane, take } = await arrange(ordered)
    const [plain] = await addSteps(sql, await lane(0, ''), 1)
    const [ada] = await addSteps(sql, await lane(0, `${type} ada`), 1)
    const pause = (of: { type: string | null; key: string | null; until?: string }) =>
      ordered.database.run((db) => addPause(db, { until: null, reason: null, ...of }))

    await pause({ type, key: null, until: '2100-01-01T00:00:00Z' })
    assert.deepEqual(await take(), [])
    await pause({ type, key: null, until: '2001-01-01T00:00:00Z' })
    await pause({ type: null, key: `${type} ada` })
    assert.deepEqual(idsOf(await take()), [plain])
    await sql`delete from fleet_q.pauses`
    await pause({ type: 'another', key: `${type} ada` })
    assert.deepEqual(idsOf(await take()), [ada])
  })

  test('a pod that is dead, draining or wished to drain takes nothing', async () => {
    const { sql, lane, podId, take } = await arrange(ordered)
    await addSteps(sql, await lane(), 3)
    await sql`update fleet_q.pods set drain_wanted = true where id = ${podId}`
    assert.deepEqual(await take(), [])
    await sql`update fleet_q.pods set drain_wanted = false, status = 'draining' where id = ${podId}`
    assert.deepEqual(await take(), [])
    await killPod(sql, podId)
    assert.deepEqual(await take(), [])
  })

  test('a step that was cancelled, or whose letter is gone, leaves the tray and is not told', async () => {
    const { sql, lane, take } = await arrange(ordered)
    const [first = '', second = '', third = ''] = await addSteps(sql, await lane(), 3)
    await ordered.database.run((db) => cancelSteps(db, [first], 'the test says so'))
    await sql`delete from fleet_q.steps where id = ${second}`
    assert.deepEqual(idsOf(await take()), [third])
    const [left] =
      await sql`select count(*)::int as lying from fleet_q.ready where step_id in (${first}, ${second})`
    assert.equal(left?.['lying'], 0)
    const claims =
      await sql`select step_ids from fleet_q.claims where step_ids && array[${first}, ${second}]::bigint[]`
    assert.deepEqual([...claims], [])
  })

  test('what a dead pod held, and what a pod let go, comes before everything else of its lane, in order', async () => {
    const { type, sql, lane, podId, take } = await arrange(ordered)
    const laneId = await lane()
    const steps = await addSteps(sql, laneId, 6)
    const doomed = await addPod(sql, [type])
    const lost = claimedOf(
      await ordered.database.run((db) => exchange(db, want(doomed, { types: [type], limit: 2 }), [], [])),
    )
    const letGo = await take({ limit: 2 })
    assert.deepEqual([...idsOf(lost), ...idsOf(letGo)], steps.slice(0, 4))

    await ordered.database.run((db) =>
      settle(
        db,
        podId,
        letGo.map((step) =>
          reportOf(step, {
            outcome: null,
            ended: 'released',
            result: null,
            delayMs: 0,
            nextAttempt: step.attempt,
          }),
        ),
        [letGo[0]?.claim_id ?? ''],
      ),
    )
    await killPod(sql, doomed)
    const [term] = await sql<{ term: string }[]>`
      insert into fleet_q.leader_terms (pod_id, began_why) values (${podId}, 'the test says so') returning term`
    await ordered.database.begin(async (tx) => {
      await putBack(tx, await takeOrphanClaims(tx, term?.term ?? '', 10), 3, 0)
    })
    // In two claims: each tells its steps by position, whatever it took them by.
    const again = [...(await take({ limit: 3 })), ...(await take({ limit: 3 }))]
    assert.deepEqual(idsOf(again), [...idsOf(letGo), ...idsOf(lost), ...steps.slice(4)])
    // What was let go has lost no attempt, what died with its pod has.
    assert.deepEqual(
      again.map((step) => step.attempt),
      [1, 1, 2, 2, 1, 1],
    )
  })

  test('a submit that commits late lies behind the mark: passed by a claim with marks, found by a sweep', async () => {
    const { type, sql, lane, take } = await arrange(ordered)
    const laneId = await lane()
    let commit: () => void = () => {}
    const mayCommit = new Promise<void>((resolve) => {
      commit = resolve
    })
    let submitted: () => void = () => {}
    const isSubmitted = new Promise<void>((resolve) => {
      submitted = resolve
    })
    let late = ''
    const slow = sql.begin(async (tx) => {
      const [row] = await tx<{ key: string }[]>`select fleet_q.step_key(fleet_q.submit(${type})) as key`
      late = row?.key ?? ''
      submitted()
      await mayCommit
    })
    await Promise.race([isSubmitted, slow])
    const steps = await addSteps(sql, laneId, 3)
    const taken = await take({ limit: 2 })
    assert.deepEqual(idsOf(taken), steps.slice(0, 2))
    commit()
    await slow

    const marks = { markLanes: [laneId], markPositions: [taken.at(-1)?.position ?? ''] }
    assert.deepEqual(idsOf(await take(marks)), [steps[2]])
    assert.deepEqual(idsOf(await take(marks)), [])
    assert.deepEqual(idsOf(await take()), [late])
  })
})
