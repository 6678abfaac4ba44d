import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { repeatOnConflict } from '../../src/db/connect.ts'
import { putBack, takeOrphanClaims } from '../../src/recovery/recovery.sql.ts'
import { redrive } from '../../src/step/redrive.ts'
import { cancelSteps } from '../../src/step/cancel.sql.ts'
import { type ClaimedStep } from '../../src/step/claim.sql.ts'
import { exchange } from '../../src/step/exchange.sql.ts'
import { promoteDue } from '../../src/step/promote.sql.ts'
import { settle, type Report } from '../../src/step/settle.sql.ts'
import { countLanes, countOutcomes } from '../../src/step/queue.sql.ts'
import { forgetSettled } from '../../src/step/retention.sql.ts'
import { createSubmitter } from '../../src/step/submit.ts'
import { unnoted } from '../support/actor.ts'
import { testDatabase, type TestDatabase } from '../support/database.ts'
import { get } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { addPod, againOf, claimedOf, failedOf, handingIn, killPod, reportOf, want } from './arrange.ts'

const TRAYS = readFileSync('sql/inspect/trays.sql', 'utf8')

const alone = await testDatabase()
const together = await testDatabase()

type Chance = () => number

/** mulberry32: the same walk for the same seed. */
function chanceOf(seed: number): Chance {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

interface Pod {
  id: string
  holds: ClaimedStep[]
  /** Handed in last; some are handed in again, as after an answer that was lost. */
  said: Report[]
}

/** A queue, and everything that may happen to it; each verb is what the product does, at a random moment. */
async function createWalk(db: TestDatabase, seed: number, forgetSeconds: number) {
  const { sql, database } = db
  const chance = chanceOf(seed)
  const below = (n: number) => Math.floor(chance() * n)
  const some = <T>(things: T[], most: number): T[] =>
    things.filter(() => chance() < most / (things.length || 1))
  const types = [`walk-${seed}-a`, `walk-${seed}-b`]
  const submitter = createSubmitter({
    database,
    shared: database,
    callBehind: () => {},
    onSubmitted: () => {},
    onReplaced: () => {},
  })
  const steps = new Set<string>()
  const pods: Pod[] = [await newPod(), await newPod()]
  const graves: Pod[] = []
  let forgotten = 0
  await sql`
    insert into fleet_q.leader_terms (pod_id, began_why) values (${pods[0]?.id ?? ''}, 'the test says so')
    on conflict ((true)) where ended_at is null do nothing`
  const [term] = await sql<{ term: string }[]>`select term from fleet_q.leader_terms where ended_at is null`

  async function newPod(): Promise<Pod> {
    return { id: await addPod(sql, types), holds: [], said: [] }
  }

  const verbs = {
    async submit() {
      const { stepIds } = await submitter.submit(
        Array.from({ length: 1 + below(4) }, () => ({
          type: types[below(2)] ?? '',
          args: {},
          priority: below(3),
          max_retries: below(4),
          ...(chance() < 0.3 ? { key: `k${below(2)}` } : {}),
          ...(chance() < 0.3 ? { delay_seconds: below(3) } : {}),
        })),
      )
      for (const row of await sql<{ key: string }[]>`
        select fleet_q.step_key(id) as key from unnest(${stepIds}::text[]) as id`)
        steps.add(row.key)
    },
    async submitFromSql() {
      const [row] = await sql<{ key: string }[]>`
        select fleet_q.step_key(fleet_q.submit(${types[below(2)] ?? ''}, priority => ${below(3)})) as key`
      if (row) steps.add(row.key)
    },
    async exchange() {
      const pod = pods[below(pods.length)]
      if (!pod) return
      const reports = [
        ...some(pod.holds, 3).map(ending),
        ...(chance() < 0.2 ? pod.said.map((report) => ({ ...report, mayStand: true as const })) : []),
      ]
      const kept = pod.holds.filter(
        (step) =>
          !reports.some(({ claimId, stepId }) => claimId === step.claim_id && stepId === step.step_id),
      )
      const open = new Set(kept.map((step) => step.claim_id))
      const ended = [...new Set(reports.map(({ claimId }) => claimId))].filter((claim) => !open.has(claim))
      const wish = want(pod.id, { types, limit: 1 + below(6) })
      const taken = claimedOf(
        await handingIn(reports, (sent) =>
          repeatOnConflict(() => database.run((tx) => exchange(tx, wish, sent, ended))),
        ),
      )
      pod.said = reports
      pod.holds = [...kept, ...taken]
    },
    async cancel() {
      const ids = some([...steps], 2)
      await repeatOnConflict(() => database.run((tx) => cancelSteps(tx, ids, 'the walk says so')))
    },
    async redrive() {
      const ended = await sql<{ id: string }[]>`
        select step_id as id from fleet_q.outcomes where step_id = any (${[...steps]}::bigint[]) and status <> 'completed'`
      const ids = some(ended, 4).map(({ id }) => id)
      await repeatOnConflict(() => redrive(database, ids, unnoted))
    },
    async promote() {
      await database.run((tx) => promoteDue(tx, 5))
    },
    async death() {
      if (pods.length < 2) pods.push(await newPod())
      const [dead] = pods.splice(below(pods.length), 1)
      if (!dead) return
      await killPod(sql, dead.id)
      graves.push(dead)
    },
    /** A pod that was declared dead, and is not: recovery may or may not have been there before it. */
    async lateAnswer() {
      const dead = graves[below(graves.length)]
      if (!dead) return
      const answered = new Set(some(dead.holds, 3))
      dead.said = [...answered].map(ending)
      dead.holds = dead.holds.filter((step) => !answered.has(step))
      await handingIn(dead.said, (sent) =>
        repeatOnConflict(() => database.run((tx) => settle(tx, dead.id, sent, []))),
      )
    },
    async recover() {
      await recoverSome(db, term?.term ?? '')
    },
    async forget() {
      const [span] = await repeatOnConflict(() =>
        database.run((tx) => forgetSettled(tx, forgetSeconds, '0', 5)),
      )
      forgotten += span?.forgotten ?? 0
    },
  }

  function ending(step: ClaimedStep): Report {
    const kind = below(10)
    if (kind < 5) return reportOf(step)
    if (kind < 6) return failedOf(step)
    if (kind < 7) return againOf(step, 0)
    if (kind < 8) return againOf(step, 1000 + below(2000))
    if (kind < 9)
      return reportOf(step, {
        outcome: null,
        ended: 'released',
        delayMs: 0,
        nextAttempt: step.attempt,
        result: null,
      })
    // What a handler may ask for, and no clock can do.
    return againOf(step, [Number.NaN, Number.POSITIVE_INFINITY, -5][below(3)] ?? 0)
  }

  return {
    steps,
    types,
    forgotten: () => forgotten,
    /** One verb, drawn at random. */
    async stroll() {
      const drawn = chance()
      if (drawn < 0.25) await verbs.submit()
      else if (drawn < 0.3) await verbs.submitFromSql()
      else if (drawn < 0.68) await verbs.exchange()
      else if (drawn < 0.75) await verbs.cancel()
      else if (drawn < 0.81) await verbs.redrive()
      else if (drawn < 0.88) await verbs.promote()
      else if (drawn < 0.91) await verbs.death()
      else if (drawn < 0.94) await verbs.lateAnswer()
      else if (drawn < 0.98) await verbs.recover()
      else await verbs.forget()
    },
  }
}

const recoverSome = ({ database }: TestDatabase, term: string): Promise<number> =>
  repeatOnConflict(() =>
    database.begin(async (tx) => {
      const claims = await takeOrphanClaims(tx, term, 2)
      if (claims.length > 0) await putBack(tx, claims, 3, 1000)
      return claims.length
    }),
  )

/** Everything that is under way comes to its end, as if a fleet worked on. */
async function settleAll(db: TestDatabase, types: string[]) {
  const { sql, database } = db
  await sql`update fleet_q.pods set status = 'dead', ended_at = now(), ended_why = 'the end' where status = 'live'`
  const [term] = await sql<{ term: string }[]>`select term from fleet_q.leader_terms where ended_at is null`
  while ((await recoverSome(db, term?.term ?? '')) > 0);
  const podId = await addPod(sql, types)
  for (let last: ClaimedStep[] = []; ;) {
    await sql`update fleet_q.later set due_at = fleet_q.clock()`
    const due = await database.run((tx) => promoteDue(tx, 500))
    const reports = last.map((step) => reportOf(step))
    const ended = [...new Set(last.map((step) => step.claim_id))]
    last = claimedOf(
      await database.run((tx) => exchange(tx, want(podId, { types, limit: 500 }), reports, ended)),
    )
    if (due.length + last.length + reports.length === 0) return
  }
}

const breachesIn = async ({ sql }: TestDatabase) => [...(await sql.unsafe(TRAYS))]

/** What /admin/queue counts, and the same counted step by step. */
async function counts({ sql, database }: TestDatabase) {
  const lanes = await database.run(countLanes)
  const [outcomes] = await database.run(countOutcomes)
  const [truth] = await sql`
    select
      (
        select count(*)::int from fleet_q.ready
        where not exists (select from fleet_q.outcomes where outcomes.step_id = ready.step_id)
      ) as ready,
      (select count(*)::int from fleet_q.later) as later,
      (select count(*)::float8 from fleet_q.step_status where tray = 'claimed') as claimed,
      (select count(*)::float8 from fleet_q.step_status where status = 'completed') as completed,
      (select count(*)::float8 from fleet_q.step_status where status = 'failed') as failed,
      (select count(*)::float8 from fleet_q.step_status where status = 'cancelled') as cancelled`
  const told = {
    ready: lanes.reduce((total, lane) => total + lane.ready, 0),
    later: lanes.reduce((total, lane) => total + lane.later, 0),
    claimed: outcomes?.claimed,
    completed: outcomes?.completed,
    failed: outcomes?.failed,
    cancelled: outcomes?.cancelled,
  }
  return { told, truth: { ...truth } }
}

/** Every step that was accepted has its outcome now, but for those that retention has thrown away. */
async function assertKept(db: TestDatabase, steps: Set<string>, forgotten: number, when: string) {
  const [kept] = await db.sql<{ steps: number }[]>`
    select count(*)::int as steps from fleet_q.outcomes where step_id = any (${[...steps]}::bigint[])`
  assert.equal((kept?.steps ?? 0) + forgotten, steps.size, `${when}: what was accepted is kept`)
}

describe('each step lies in exactly one tray, or has exactly one outcome', () => {
  test('after every verb of a random walk', async () => {
    const steps = new Set<string>()
    let forgotten = 0
    for (let seed = 1; seed <= 6; seed++) {
      const walk = await createWalk(alone, seed, 43_200)
      for (let n = 0; n < 60; n++) {
        await walk.stroll()
        assert.deepEqual(await breachesIn(alone), [], `seed ${seed}, verb ${n}`)
        if (n % 10 > 0) continue
        const { told, truth } = await counts(alone)
        assert.deepEqual(told, truth, `seed ${seed}, verb ${n}`)
      }
      await settleAll(alone, walk.types)
      assert.deepEqual(await breachesIn(alone), [], `seed ${seed}, at its end`)
      for (const id of walk.steps) steps.add(id)
      forgotten += walk.forgotten()
      await assertKept(alone, steps, forgotten, `seed ${seed}`)
      // The next walk forgets some of these.
      await alone.travel('1 day')
    }
  })

  test('after walks that cross each other, with not one deadlock among them', async () => {
    const walks = await Promise.all([101, 102, 103, 104].map((seed) => createWalk(together, seed, 0)))
    // Each cancels and redrives the steps of all.
    const everybody = new Set<string>()
    for (const { steps } of walks)
      steps.add = (id) => {
        everybody.add(id)
        for (const other of walks) Set.prototype.add.call(other.steps, id)
        return steps
      }
    await Promise.all(
      walks.map(async (walk) => {
        for (let n = 0; n < 150; n++) await walk.stroll()
      }),
    )
    assert.deepEqual(await breachesIn(together), [])
    const { told, truth } = await counts(together)
    assert.deepEqual(told, truth)

    await settleAll(
      together,
      walks.flatMap((walk) => walk.types),
    )
    assert.deepEqual(await breachesIn(together), [])
    const forgotten = walks.reduce((total, walk) => total + walk.forgotten(), 0)
    await assertKept(together, everybody, forgotten, 'four walks')
    const [seen] =
      await together.sql`select deadlocks::int from pg_stat_database where datname = current_database()`
    assert.equal(seen?.['deadlocks'], 0)
  })

  test('and GET /admin/queue counts the same', async () => {
    await together.sql`select fleet_q.submit('nobody'), fleet_q.submit('later', run_at => now() + interval '1 h')`
    const pod = await startTestPod(together.url, [])
    const { body } = await get(pod.url, '/admin/queue')
    const { truth } = await counts(together)
    assert.equal(body['pending_steps'], 2)
    assert.deepEqual(
      [body['pending_steps'], body['claimed_steps'], body['completed_steps'], body['failed_steps']],
      [
        Number(truth['ready']) + Number(truth['later']),
        truth['claimed'],
        truth['completed'],
        truth['failed'],
      ],
    )
  })
})
