import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import postgres from 'postgres'
import { findParked, takeParked } from '../../src/execution/send-back.sql.ts'
import { beatHeart } from '../../src/pod/pod.sql.ts'
import { findWork, listDeadLetters, putBack, takeOrphanClaims } from '../../src/recovery/recovery.sql.ts'
import { cancelSteps, putOutcomeAside } from '../../src/step/cancel.sql.ts'
import { claimLimited } from '../../src/step/claim.sql.ts'
import { exchange } from '../../src/step/exchange.sql.ts'
import { findSettledElsewhere, findStrayClaims } from '../../src/step/held.sql.ts'
import { nextDueMs, promoteDue } from '../../src/step/promote.sql.ts'
import { settle } from '../../src/step/settle.sql.ts'
import { findEndedSteps, findLiveSteps } from '../../src/step/queue.sql.ts'
import { findAttempts, findLogs, findPosition, findStep, listSteps } from '../../src/step/read.sql.ts'
import { forgetSettled } from '../../src/step/retention.sql.ts'
import { insertSteps, takeUniqueKey } from '../../src/step/submit.sql.ts'
import { createMarks } from '../../src/worker/marks.ts'
import { BIG_TABLES, fillTrays, stopAutovacuum } from '../support/backlog.ts'
import { testDatabase } from '../support/database.ts'
import {
  createExplainer,
  indexesOf,
  nodesOf,
  type PlanCache,
  type PlanNode,
  type Statement,
} from '../support/explain.ts'
import { addLane, addPod, addSteps, claimedOf, failedOf, reportOf, want } from './arrange.ts'

interface Hot {
  statement: Statement
  /** By these it must find its rows. */
  uses: string[]
  /** Steps are looked for in all claims: no index finds a claim by its step, and claims are few. */
  readsAllClaims?: true
  /** Read in the order of the index until a limit is reached. */
  walks?: string[]
}

const PLANNED_ANEW: PlanCache[] = ['force_custom_plan']
const BOTH: PlanCache[] = ['force_generic_plan', 'force_custom_plan']

const keys = (count: number) => Array.from({ length: count }, (_, n) => String(n + 1))
const held = (step_id: string) => ({ claim_id: '1', step_id, attempt: 1 })
const anything = {
  type: null,
  tag: null,
  pod: null,
  key: null,
  olderThanSeconds: null,
  newerThanSeconds: null,
  attention: false,
}
const wanted = want('1', { types: ['t1', 't2'], limit: 100, markLanes: [1], markPositions: ['10'] })
const reports = keys(100).map((id, n) => (n % 2 === 0 ? reportOf(held(id)) : failedOf(held(id))))
const completions = keys(100).map((id) => reportOf(held(id)))

/** sql/README.md lists the same. */
const HOT: Record<string, Hot> = {
  'step.exchange': {
    statement: (sql) => exchange(sql, wanted, reports, ['1']),
    uses: ['ready_lane_position', 'claims_pkey', 'outcomes_pkey', 'attempts_pkey', 'steps_pkey'],
  },
  'step.exchange, all completed': {
    statement: (sql) => exchange(sql, wanted, completions, ['1']),
    uses: ['ready_lane_position', 'claims_pkey', 'outcomes_pkey', 'steps_pkey'],
  },
  'step.claim': {
    statement: (sql) => exchange(sql, wanted, [], []),
    uses: ['ready_lane_position', 'outcomes_pkey', 'steps_pkey'],
  },
  'step.claim_limited': {
    statement: (sql) => claimLimited(sql, wanted, ['t1']),
    uses: ['ready_lane_position', 'outcomes_pkey', 'attempts_pkey', 'steps_pkey'],
    readsAllClaims: true,
  },
  'step.settle': {
    statement: (sql) => settle(sql, '1', reports, ['1']),
    uses: ['claims_pkey', 'outcomes_pkey', 'attempts_pkey', 'steps_pkey'],
  },
  'step.stray_claims': { statement: (sql) => findStrayClaims(sql, '1', ['1'], 15), uses: ['claims_pod'] },
  'step.settled_elsewhere': {
    statement: (sql) => findSettledElsewhere(sql, keys(100)),
    uses: ['outcomes_pkey'],
  },
  'step.submit': {
    statement: (sql) =>
      insertSteps(sql, [
        {
          laneId: 1,
          salt: '1',
          maxRetries: 3,
          timeoutMs: null,
          runAt: null,
          delayMs: null,
          expiresAt: null,
          args: '{}',
          metadata: null,
          retry: null,
          tags: null,
          parentId: null,
          detached: false,
        },
      ]),
    uses: [],
  },
  'step.unique_take': { statement: (sql) => takeUniqueKey(sql, 'one'), uses: ['outcomes_pkey'] },
  'step.promote': {
    statement: (sql) => promoteDue(sql, 500),
    uses: ['later_due', 'later_pkey', 'outcomes_pkey'],
  },
  'step.next_due': { statement: (sql) => nextDueMs(sql), uses: ['later_due'], walks: ['later_due'] },
  'pod.beat': {
    statement: (sql) => beatHeart(sql, { id: '1', heartbeatMs: 1000, running: 1, stuck: 0 }),
    uses: ['pods_living', 'leader_terms_open'],
  },
  'recovery.look': { statement: (sql) => findWork(sql, '1'), uses: ['claims_pod'] },
  'recovery.take_claims': {
    statement: (sql) => takeOrphanClaims(sql, '1', 50),
    uses: ['claims_pod', 'claims_pkey'],
  },
  'recovery.put_back': {
    statement: (sql) =>
      putBack(
        sql,
        [
          {
            id: '1',
            pod_id: '1',
            pod: 'pod-1',
            died: true,
            taken_at: new Date(),
            step_ids: keys(100),
            attempts: keys(100).map(() => 1),
          },
        ],
        3,
        1000,
      ),
    uses: ['steps_pkey', 'outcomes_pkey', 'attempts_pkey', 'redrives_step'],
  },
  'recovery.dead_letters': {
    statement: (sql) => listDeadLetters(sql, { reason: null, type: null, before: '5000' }, 20),
    uses: ['dead_letters_pkey', 'outcomes_pkey', 'steps_pkey'],
  },
  'step.find': {
    statement: (sql) => findStep(sql, { id: '5', salt: '5' }),
    uses: ['steps_pkey', 'outcomes_pkey', 'later_pkey', 'attempts_pkey'],
    readsAllClaims: true,
  },
  'step.attempts': { statement: (sql) => findAttempts(sql, '5', 100), uses: ['attempts_pkey'] },
  'step.logs': { statement: (sql) => findLogs(sql, '5', null, '0', 100), uses: ['logs_pkey'] },
  'step.position': {
    statement: (sql) => findPosition(sql, { id: '5', laneId: 1, priority: 0 }, 10_000),
    uses: ['ready_lane_position'],
  },
  'step.list': {
    statement: (sql) => listSteps(sql, { ...anything, status: null }, '5000', 10_000, 20),
    uses: ['steps_pkey', 'outcomes_pkey', 'later_pkey'],
    readsAllClaims: true,
  },
  'step.list of what failed': {
    statement: (sql) => listSteps(sql, { ...anything, status: 'failed' }, '5000', 10_000, 20),
    uses: ['outcomes_not_completed', 'steps_pkey', 'outcomes_pkey', 'later_pkey'],
    readsAllClaims: true,
  },
  'step.list of what is claimed': {
    statement: (sql) => listSteps(sql, { ...anything, status: 'claimed' }, null, 10_000, 20),
    uses: ['steps_pkey', 'outcomes_pkey', 'later_pkey'],
    readsAllClaims: true,
  },
  'step.list of what is parked': {
    statement: (sql) => listSteps(sql, { ...anything, status: null, attention: true }, '5000', 10_000, 20),
    uses: ['later_held', 'steps_pkey', 'outcomes_pkey', 'later_pkey'],
    readsAllClaims: true,
  },
  'execution.parked': {
    statement: (sql) => findParked(sql, { ...anything, status: [], attention: true }, '0', 500),
    uses: ['later_held', 'steps_pkey'],
  },
  'execution.take_parked': {
    statement: (sql) => takeParked(sql, keys(500)),
    uses: ['later_held', 'outcomes_pkey'],
  },
  'step.bulk_live': {
    statement: (sql) => findLiveSteps(sql, { ...anything, type: 't1', status: ['pending'] }, '0', 500),
    uses: ['ready_lane_position', 'later_pkey', 'steps_pkey', 'outcomes_pkey'],
    readsAllClaims: true,
  },
  'step.bulk_ended': {
    statement: (sql) => findEndedSteps(sql, { ...anything, type: 't1', status: ['failed'] }, '0', 500),
    uses: ['steps_pkey'],
  },
  'step.cancel': {
    statement: (sql) => cancelSteps(sql, keys(500), 'the test says so'),
    uses: ['steps_pkey', 'later_pkey'],
    readsAllClaims: true,
  },
  'step.put_aside': {
    statement: (sql) => putOutcomeAside(sql, keys(20)),
    uses: ['outcomes_pkey', 'dead_letters_pkey', 'steps_pkey'],
    readsAllClaims: true,
  },
  'step.forget': {
    statement: (sql) => forgetSettled(sql, 1, '0', 1000),
    uses: ['outcomes_pkey', 'steps_pkey', 'attempts_pkey', 'logs_pkey', 'progress_pkey', 'unique_keys_step'],
    readsAllClaims: true,
  },
}

/** The column by which each index is entered. */
type Entrances = Map<string, string>

/** What is wrong with a plan, in words; empty for a good one. */
function faults(plan: PlanNode, { uses, readsAllClaims, walks = [] }: Hot, entrances: Entrances): string[] {
  const big = new Set<string>(BIG_TABLES.filter((table) => table !== 'claims' || !readsAllClaims))
  const used = indexesOf(plan)
  return [
    ...uses.filter((index) => !used.includes(index)).map((index) => `does not use ${index}`),
    ...nodesOf(plan).flatMap((node) => {
      const kind = node['Node Type']
      const table = node['Relation Name'] ?? ''
      const index = node['Index Name'] ?? ''
      if (kind === 'Seq Scan') return big.has(table) ? [`reads all of ${table}`] : []
      // A bitmap of a lane is read to its end, and sorted, for the first few.
      if (kind.startsWith('Bitmap')) return [`makes a bitmap of ${index || table}`]
      if (!kind.startsWith('Index') || !big.has(table) || walks.includes(index)) return []
      // An index that is read from end to end is no better than the table.
      const entrance = new RegExp(`\\b${entrances.get(index) ?? '?'}\\b`)
      return entrance.test(node['Index Cond'] ?? '') ? [] : [`reads all of ${index}`]
    }),
  ]
}

/**
 * Behind a pooler nothing is prepared and no setting is ours: each plan is made for the tables as they are. A bitmap
 * is all right then, but for the claim; and so is a look at all of `claims` while they fill a page.
 */
const faultsBehindPooler = (plan: PlanNode, name: string): string[] =>
  nodesOf(plan).flatMap((node) => {
    const table = node['Relation Name'] ?? ''
    if (node['Node Type'] === 'Seq Scan' && table !== 'claims' && BIG_TABLES.some((big) => big === table))
      return [`reads all of ${table}`]
    return name.startsWith('step.exchange') &&
      node['Index Name'] === 'ready_lane_position' &&
      node['Node Type'].startsWith('Bitmap')
      ? ['reads a whole lane']
      : []
  })

const db = await testDatabase()
const queue = await testDatabase()

describe('every hot statement finds its rows by index, whatever the statistics say', () => {
  const found = new Map<string, string[]>()
  let entrances: Entrances

  before(async () => {
    const indexes = await db.sql<{ index: string; entrance: string }[]>`
      select pg_index.indexrelid::regclass::text as index, attname as entrance from pg_index
      join pg_attribute on attrelid = indrelid and attnum = indkey[0]
      where indrelid in (select oid from pg_class where relnamespace = 'fleet_q'::regnamespace)`
    entrances = new Map(indexes.map(({ index, entrance }) => [index.replace('fleet_q.', ''), entrance]))
    await stopAutovacuum(db.sql)
    await explainAll('on empty tables')
    await db.sql.unsafe('vacuum analyze')
    await explainAll('on empty tables whose statistics say so')
    await fillTrays(db.sql, 100_000)
    await explainAll('with 300,000 steps and the statistics of nothing')
    await explainAll('with 300,000 steps, behind a pooler', true)
    await bloat()
    await explainAll('with bloated trays')
    await explainAll('with bloated trays, behind a pooler', true)
  })

  /** The generic plan is what pods run; the other kind must not be worse, should a session allow it. */
  async function explainAll(when: string, pooler = false) {
    const explainer = await createExplainer(db.url, pooler)
    for (const [name, hot] of Object.entries(HOT))
      for (const cache of pooler ? PLANNED_ANEW : BOTH) {
        const plan = await explainer.explain(hot.statement, cache)
        const wrong = pooler ? faultsBehindPooler(plan, name) : faults(plan, hot, entrances)
        found.set(name, [...(found.get(name) ?? []), ...wrong.map((fault) => `${when}, ${cache}: ${fault}`)])
      }
    await explainer.end()
  }

  /** Three quarters of what each tray has on its pages is dead, and nobody has told the planner. */
  async function bloat() {
    const { sql } = db
    await sql`delete from fleet_q.ready where step_id % 4 > 0`
    await sql`delete from fleet_q.later where step_id % 4 > 0`
    await sql`
      insert into fleet_q.claims (pod_id, step_ids, attempts)
      select (select min(id) from fleet_q.pods), array[n], array[1] from generate_series(1, 20000) as n`
    await sql`delete from fleet_q.claims where cardinality(step_ids) = 1`
    await sql`delete from fleet_q.outcomes where step_id % 4 > 0`
  }

  for (const name of Object.keys(HOT))
    test(`${name} uses what sql/README.md says`, () => assert.deepEqual(found.get(name), []))
})

describe('behind a held-back xmin horizon', () => {
  const session = postgres(queue.url, { max: 1, onnotice: () => {} })
  let horizon: { release(): Promise<void> }
  let podId: string

  before(async () => {
    await stopAutovacuum(queue.sql)
    podId = await addPod(queue.sql)
    await addSteps(queue.sql, await addLane(queue.sql), 100_000)
    horizon = await holdHorizon(queue.url)
  })
  after(async () => {
    await horizon.release()
    await session.end({ timeout: 1 })
  })

  /** Entries that a statement read of each index, told by its own transaction: no need to wait for the collector. */
  async function entriesRead(work: (sql: postgres.TransactionSql) => Promise<unknown>) {
    const read = (tx: postgres.TransactionSql) => tx<{ name: string; entries: number }[]>`
      select indexrelname as name, pg_stat_get_xact_tuples_returned(indexrelid)::int as entries
      from pg_stat_user_indexes where schemaname = 'fleet_q' order by indexrelname`
    return session.begin(async (tx) => {
      const earlier = await read(tx)
      await work(tx)
      const later = await read(tx)
      return Object.fromEntries(
        later.map(({ name, entries }, n) => [name, entries - (earlier[n]?.entries ?? 0)]),
      )
    })
  }

  test('a claim of 100 that starts behind its mark reads about 100 entries, and one without marks the dead end', async () => {
    const marks = createMarks()
    let nowMs = 0
    let last: ReturnType<typeof claimedOf> = []
    const turn = (sql: postgres.ISql, marked: boolean) =>
      exchange(
        sql,
        want(podId, {
          limit: 100,
          ...(marked ? marks.all() : {}),
        }),
        last.map((step) => reportOf(step)),
        [...new Set(last.map((step) => step.claim_id))],
      )
    const step = async (sql: postgres.ISql, marked: boolean) => {
      last = claimedOf(await turn(sql, marked))
      assert.equal(last.length, 100)
      nowMs += 50
      marks.took(last, nowMs)
    }
    for (let n = 0; n < 100; n++) await step(session, true)

    const entries = await entriesRead((tx) => step(tx, true))
    // The mark stays 100 ms behind: here the last three claims of 100 are walked again.
    assert.ok((entries['ready_lane_position'] ?? 0) <= 500, JSON.stringify(entries))
    // One claim row is let go, none is looked for among the 100 dead ones of this pod.
    assert.ok((entries['claims_pkey'] ?? 0) + (entries['claims_pod'] ?? 0) <= 4, JSON.stringify(entries))
    for (const index of ['outcomes_pkey', 'steps_pkey', 'attempts_pkey'])
      assert.ok((entries[index] ?? 0) <= 200, JSON.stringify(entries))

    const sweep = await entriesRead((tx) => step(tx, false))
    assert.ok((sweep['ready_lane_position'] ?? 0) >= 10_000, JSON.stringify(sweep))
  })
})

/** Somebody's long snapshot: a report, a dump, a forgotten psql. */
async function holdHorizon(url: string) {
  const holder = postgres(url, { max: 1, onnotice: () => {} })
  let release: () => void = () => {}
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  let opened: () => void = () => {}
  const isOpen = new Promise<void>((resolve) => {
    opened = resolve
  })
  const over = holder.begin('isolation level repeatable read', async (tx) => {
    await tx`select 1`
    opened()
    await released
  })
  await Promise.race([isOpen, over])
  return {
    async release() {
      release()
      await over
      await holder.end({ timeout: 1 })
    },
  }
}

test('a beat is a HOT update: it writes no index, however many pods beat', async () => {
  const beats = await testDatabase()
  const pod = await addPod(beats.sql)
  const hot = await beats.sql.begin(async (tx) => {
    await beatHeart(tx, { id: pod, heartbeatMs: 1000, running: 1, stuck: 0 })
    const [row] =
      await tx`select pg_stat_get_xact_tuples_hot_updated('fleet_q.pods'::regclass)::int as updates`
    return row?.['updates']
  })
  assert.equal(hot, 1)
})
