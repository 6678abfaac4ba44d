import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { accede, depose, succeed } from '../../src/leader/leader.sql.ts'
import { beatHeart } from '../../src/pod/pod.sql.ts'
import { testDatabase } from '../support/database.ts'

/** Fleets drawn by chance, in rows: who leads is what three statements say, asked by every pod and in any order. */

const RUNS = { numRuns: 60 }
const { sql } = await testDatabase()

interface Pod {
  status: 'live' | 'draining' | 'dead' | 'gone'
  eligible: boolean
  /** Before the others; several may be born in one moment. */
  bornMs: number
  silent: boolean
  /** Its leadership failed a while ago, or so lately that the others go first. */
  benched: 'never' | 'past' | 'now'
}

interface Row extends Pod {
  id: string
}

const pod: fc.Arbitrary<Pod> = fc.record({
  status: fc.constantFrom('live', 'live', 'live', 'draining', 'dead', 'gone'),
  eligible: fc.constantFrom(true, true, true, false),
  bornMs: fc.integer({ min: 0, max: 3 }),
  silent: fc.constantFrom(false, false, true),
  benched: fc.constantFrom('never', 'never', 'past', 'now'),
})

/** What must come of it, in words of its own: among the living that may lead the oldest, the benched last. */
const shouldLead = (rows: Row[]): string | undefined =>
  rows
    .filter(({ status, eligible, silent }) => status === 'live' && eligible && !silent)
    .toSorted(
      (one, other) =>
        Number(one.benched === 'now') - Number(other.benched === 'now') ||
        other.bornMs - one.bornMs ||
        Number(one.id) - Number(other.id),
    )[0]?.id

async function setUp(pods: Pod[], leading: number | undefined): Promise<Row[]> {
  await sql`delete from fleet_q.leader_terms`
  await sql`delete from fleet_q.pods`
  const made = await sql<{ id: string }[]>`
    insert into fleet_q.pods (public_id, name, status, version, types, capacity, dead_after_ms, leader_eligible, born_at,
      beat_at, benched_until, ended_at, ended_why)
    select 'p' || n, 'p', status::fleet_q.pod_status, '0', '{}', 1, 15000, eligible,
      at - interval '1 h' - born_ms * interval '1 ms', at - case when silent then interval '1 min' else '0' end,
      case benched when 'past' then at - interval '1 min' when 'now' then at + interval '1 min' end,
      case when status in ('dead', 'gone') then at end, case when status in ('dead', 'gone') then 'made so' end
    from (select fleet_q.clock() as at) as now, unnest(
      ${pods.map((each) => each.status)}::text[], ${pods.map((each) => String(each.eligible))}::text[]::boolean[],
      ${pods.map((each) => each.bornMs)}::int[], ${pods.map((each) => String(each.silent))}::text[]::boolean[],
      ${pods.map((each) => each.benched)}::text[]
    ) with ordinality as wish (status, eligible, born_ms, silent, benched, n)
    order by n returning id`
  const rows = pods.map((each, n) => ({ ...each, id: made[n]?.id ?? '' }))
  const before = leading === undefined ? undefined : rows[leading % rows.length]
  if (before) await sql`insert into fleet_q.leader_terms (pod_id, began_why) values (${before.id}, 'made')`
  return rows
}

async function openTerms(): Promise<string[]> {
  const rows = await sql<{ pod_id: string }[]>`select pod_id from fleet_q.leader_terms where ended_at is null`
  return rows.map((row) => row.pod_id)
}

/** As a pod stands: after a beat that called it the eldest, it ends another's term and opens its own. */
async function stand(id: string) {
  await succeed(sql, id)
  await accede(sql, id)
}

const leading = fc.option(fc.nat(), { nil: undefined })

test('whoever asks, and in whatever order: the oldest living pod that may lead gets the term, nobody else does', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(pod, { minLength: 1, maxLength: 7, size: 'max' }),
      leading,
      fc.infiniteStream(fc.nat()),
      async (pods, before, dice) => {
        const rows = await setUp(pods, before)
        const heir = shouldLead(rows)
        const order = rows
          .map((row) => ({ row, at: dice.next().value as number }))
          .toSorted((one, other) => one.at - other.at)
        for (const { row } of order) {
          const former = await openTerms()
          await stand(row.id)
          assert.deepEqual(await openTerms(), row.id === heir ? [heir] : former, `pod ${row.id} stood`)
        }
        await Promise.all(rows.map((row) => stand(row.id)))
        if (heir !== undefined) assert.deepEqual(await openTerms(), [heir], 'all stood at once')
      },
    ),
    RUNS,
  )
})

test('a beat tells the pod that should lead to stand, and tells it of the term that is open', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(pod, { minLength: 1, maxLength: 7, size: 'max' }),
      leading,
      async (pods, before) => {
        const rows = await setUp(pods, before)
        for (const row of rows) {
          const [beat] = await beatHeart(sql, { id: row.id, heartbeatMs: 5000, running: 0, stuck: 0 })
          const ended = row.status === 'dead' || row.status === 'gone'
          assert.equal(beat === undefined, ended, 'who was declared dead never lives again')
          if (!beat) continue
          row.silent = false
          assert.equal(beat.leader_id, (await openTerms())[0] ?? null)
          if (shouldLead(rows) === row.id)
            assert.ok(beat.eldest, `pod ${row.id} should lead, and is not told so`)
        }
      },
    ),
    RUNS,
  )
})

test('a leader that proved nothing loses its term, is passed over while it is benched, and leads again where it is alone', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(pod, { minLength: 1, maxLength: 7, size: 'max' }), async (pods) => {
      const rows = await setUp(pods, undefined)
      const first = shouldLead(rows)
      if (first === undefined) return
      await stand(first)
      assert.equal((await depose(sql, 60_000, 60_000)).length, 0, 'it has just begun')
      await sql`update fleet_q.leader_terms set proved_at = fleet_q.clock() - interval '2 min'`
      const [deposed] = await depose(sql, 60_000, 60_000)
      assert.equal(deposed?.pod_id, first)
      for (const row of rows) if (row.id === first) row.benched = 'now'
      for (const row of rows) await stand(row.id)
      assert.deepEqual(await openTerms(), [shouldLead(rows)])
    }),
    RUNS,
  )
})
