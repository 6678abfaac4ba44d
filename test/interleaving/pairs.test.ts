import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FleetError } from '../../src/errors.ts'
import { recoverBatch } from '../../src/recovery/run-cycle.ts'
import { removePause } from '../../src/step/queue.sql.ts'
import { promote } from '../../src/step/promote.ts'
import { exchange } from '../../src/step/exchange.sql.ts'
import { settle } from '../../src/step/settle.sql.ts'
import { assertSound } from '../recovery/fleet.ts'
import { testDatabase } from '../support/database.ts'
import { explore, type Schedule } from './explore.ts'
import { openGate } from './gate.ts'
import { completedReport, GATED, OPERATIONS, setScene, TYPE, want, type Scene } from './operations.ts'

/**
 * Each two operations of the fleet, in every order in which their statements can meet, on a real Postgres. After each
 * order the tables are looked through; then the rest of the fleet works off what is left, and every step must have
 * come to its end.
 */

const { url, sql, database } = await testDatabase()
const gates = [await openGate(url, 'gate A', GATED), await openGate(url, 'gate B', GATED)] as const

/** What may be said to somebody who came too late. */
const TOO_LATE = ['wrong_state', 'step_not_found', 'idempotency_conflict']

type Result = { value: unknown } | { error: unknown }

const outcome = (work: Promise<unknown>): Promise<Result> =>
  work.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )

let total = 0
for (const [i, first] of OPERATIONS.entries())
  for (const second of OPERATIONS.slice(i))
    // A recovery takes from the dead; a heartbeat and a verdict are about one that may yet live.
    test(`${first.name} and ${second.name}, in every order`, async (t) => {
      const isAboutDeath = [first.name, second.name].some(
        (name) => name === 'heartbeat' || name === 'declare dead',
      )
      let scene: Scene
      const schedules = await explore<Result>({
        gates,
        sql,
        async arrange() {
          scene = await setScene(sql, { victimIsDead: !isAboutDeath })
        },
        act: [
          () => outcome(first.act(gates[0].database, scene, false)),
          () => outcome(second.act(gates[1].database, scene, first === second)),
        ],
        async check(schedule) {
          try {
            await checkMeeting(schedule, [first.name, second.name])
          } catch (error) {
            throw new Error(`${schedule.moves.join(', ')}: ${String(error)}`, { cause: error })
          }
        },
      })
      total += schedules
      t.diagnostic(`${schedules} orders, ${total} so far`)
    })

async function checkMeeting({ results, moves }: Schedule<Result>, names: string[]) {
  for (const result of results)
    if ('error' in result)
      assert.ok(
        result.error instanceof FleetError && TOO_LATE.includes(result.error.code),
        String(result.error),
      )
  await assertSound(sql)
  if (names.every((name) => name === 'idempotent submit')) {
    const ids = results.map((result) =>
      'value' in result ? (result.value as { stepIds: string[] }).stepIds : [],
    )
    assert.deepEqual(ids[0], ids[1], 'one key made two steps')
  }
  if (names[0] === 'exchange' && names[1] === 'pause') {
    const claims = await sql`select from fleet_q.claims where pod_id = 3 and step_ids && '{1,2}'::bigint[]`
    const claimedAt = moves.findIndex((move) => move.startsWith('A '))
    const pausedAt = moves.findLastIndex((move) => move.startsWith('B '))
    assert.ok(claims.length === 0 || claimedAt < pausedAt, 'a claim began after the pause had been confirmed')
  }
  await workOff()
}

/** Everything comes to an end, whatever has happened. */
async function workOff() {
  await database.run((each) => removePause(each, { type: TYPE, key: null }))
  await sql`update fleet_q.pods set status = 'dead', ended_at = now(), ended_why = 'made so' where id in (2, 4) and ended_at is null`
  while ((await recoverBatch(database, '1', 0)).claims > 0);
  await sql`update fleet_q.later set due_at = now() - interval '1 s'`
  await promote(database)
  const left = await sql<
    { id: string; step_ids: string[]; attempts: number[] }[]
  >`select id, step_ids, attempts from fleet_q.claims`
  for (const { id, step_ids, attempts } of left)
    await database.run((each) =>
      settle(
        each,
        '3',
        step_ids.map((step, n) => ({ ...completedReport(id, step, attempts[n]), mayStand: true as const })),
        [id],
      ),
    )
  const rows = await database.run((each) => exchange(each, want('3', 100), [], []))
  const claimed = rows.filter((row) => row.kind === 'claimed')
  const claims = [...new Set(claimed.map((row) => row.claim_id))]
  await database.run((each) =>
    settle(
      each,
      '3',
      claimed.map((row) => completedReport(row.claim_id, row.step_id, row.attempt)),
      claims,
    ),
  )
  await assertSound(sql)
  const open = await sql<{ id: string }[]>`
    select id from fleet_q.steps where not exists (select from fleet_q.outcomes where step_id = steps.id)`
  assert.deepEqual(
    open.map((step) => step.id),
    [],
    'these steps never come to an end',
  )
  assert.deepEqual([...(await sql`select id from fleet_q.claims`)], [], 'a claim is left')
}
