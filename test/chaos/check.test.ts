import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Sql } from '../../src/db/connect.ts'
import { parsePublicId } from '../../src/step/step.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { startAudit } from './audit.ts'
import { checkAll, loadHistory, measureRecovery } from './check/check.ts'
import { compareCounts } from './check/counts.ts'
import { INVARIANTS } from './check/invariants.ts'
import { strangeEnd } from './check/strange-end.ts'
import { KEPT_FORGED } from './forged/kept.ts'
import { makeSoundHistory } from './forged/sound-history.ts'
import { REMEMBERED_FORGED } from './forged/remembered.ts'
import { TOLD_FORGED } from './forged/told.ts'
import { DEAD_AFTER_SECONDS, type End } from './keep-pod.ts'

/** The checker of a run of chaos: silent over a sound history, and not over one in which something was forged. */

const folder = mkdtempSync(join(tmpdir(), 'fleet-q-check-'))
atEnd(() => rmSync(folder, { recursive: true }))
const db = await testDatabase()
await startAudit(db.sql)
const forgeries = [...TOLD_FORGED, ...KEPT_FORGED, ...REMEMBERED_FORGED]
const history = await makeSoundHistory(db, join(folder, 'effects'))

class Undone extends Error {}

/** What is done in there was never done when it is over. */
async function inVain<T>(work: (tx: Sql) => Promise<T>): Promise<T> {
  const done: T[] = []
  await db.sql
    .begin(async (tx) => {
      done.push(await work(tx))
      throw new Undone()
    })
    .catch((error: unknown) => {
      if (!(error instanceof Undone)) throw error
    })
  const [answer] = done
  assert.ok(answer)
  return answer
}

async function look(sql: Sql) {
  await loadHistory(sql, [], join(folder, 'effects'))
  return Object.fromEntries(
    (await checkAll(sql))
      .filter(({ witnesses }) => witnesses.length > 0)
      .map((each) => [each.id, each.witnesses]),
  )
}

test('a sound history gives no witness against any invariant', async () => {
  assert.deepEqual(await inVain(look), {})
})

for (const { breaks, by, forge } of forgeries)
  test(`${by}: ${breaks.join(' and ')} must see it`, async () => {
    const { seen, name } = await inVain(async (tx) => ({
      name: await forge(tx, history),
      seen: await look(tx),
    }))
    assert.deepEqual(Object.keys(seen).toSorted(), breaks, JSON.stringify(seen))
    const key = parsePublicId(name)?.id
    const named = new RegExp(key === undefined ? `\\b${name}\\b` : `${name}|\\bstep ${key}\\b`)
    for (const witnesses of Object.values(seen)) assert.match(witnesses.join('\n'), named)
  })

test('every invariant has been seen broken', () => {
  const broken = new Set(forgeries.flatMap(({ breaks }) => breaks))
  assert.deepEqual(
    INVARIANTS.map(({ id }) => id).filter((id) => !broken.has(id)),
    [],
  )
})

/** When it was taken, its pod killed, and it was taken again, in seconds; and when something else was broken. */
const recoveryOf = (times: { taken: number; killed: number; again: number; outage?: [number, number] }) =>
  inVain(async (tx) => {
    const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1) + seconds * 1000)
    const { recovered, victim, worker } = history
    await tx`update chaos.kills set at = ${at(times.killed)}`
    await tx`update chaos.audit set at = ${at(times.taken)} where what = 'taken' and pod_id = ${victim}`
    await tx`
      update chaos.audit set at = ${at(times.again)}
      where what = 'taken' and pod_id = ${worker} and ${recovered.key} = any (step_ids)`
    if (times.outage)
      await tx`insert into chaos.outages values (${at(times.outage[0])}, ${at(times.outage[1])})`
    await loadHistory(tx, [], join(folder, 'effects'))
    const { kills, steps, maxMs } = await measureRecovery(tx)
    return { kills, steps, maxMs }
  })

test('a recovery takes from the kill of its pod to the next claim', async () => {
  assert.deepEqual(await recoveryOf({ taken: 19, killed: 20, again: 24 }), {
    kills: 1,
    steps: 1,
    maxMs: 4000,
  })
})

test('a recovery is not measured where something else was broken meanwhile, or less than two thresholds before', async () => {
  const times = { taken: 19, killed: 20, again: 24 }
  const soonEnough = 20 - 2 * DEAD_AFTER_SECONDS - 1
  const none = { kills: 0, steps: 0, maxMs: 0 }
  assert.deepEqual(await recoveryOf({ ...times, outage: [21, 22] }), none)
  assert.deepEqual(await recoveryOf({ ...times, outage: [10, soonEnough + 2] }), none)
  assert.equal((await recoveryOf({ ...times, outage: [10, soonEnough] })).steps, 1)
  assert.equal((await recoveryOf({ ...times, outage: [25, 30] })).steps, 1)
})

test('what a pod took after its kill was noted, or had handed in before it, is no recovery', async () => {
  assert.equal((await recoveryOf({ taken: 21, killed: 20, again: 24 })).steps, 0)
  const steps = await inVain(async (tx) => {
    await tx`update chaos.audit set at = '2026-01-01' where what = 'tried' and detail = 'pod_died'`
    await loadHistory(tx, [], join(folder, 'effects'))
    return [(await measureRecovery(tx)).steps]
  })
  assert.deepEqual(steps, [0])
})

test('what the client was told is loaded as it was told', async () => {
  const told = { op: 'told', f: 'submit', stepId: `${history.plain.stepId}zz`, at: new Date() } as const
  const witnesses = await inVain(async (tx) => {
    await loadHistory(tx, [told], join(folder, 'effects'))
    return (await checkAll(tx)).flatMap((verdict) => verdict.witnesses)
  })
  assert.equal(witnesses.length, 1)
  assert.match(String(witnesses), new RegExp(`${told.stepId} \\(told\\) was accepted`))
})

test('counts that pods tell are held against those of SQL: a wrong one, one that is left out, and what waits', () => {
  const line = (status: string, n: number) => `fleet_q_steps_settled{status="${status}"} ${n}`
  const page = (...lines: string[]) => ['# HELP x', 'fleet_q_pods_live 3', ...lines, ''].join('\n')
  const counted = (n: number) => new Map([['fleet_q_steps_settled{status="completed"}', n]])
  assert.deepEqual(compareCounts(page(line('completed', 7), line('failed', 0)), counted(7)), [])
  assert.equal(compareCounts(page(line('completed', 6)), counted(7)).length, 1)
  assert.equal(compareCounts(page(), counted(7)).length, 1)
  assert.equal(compareCounts(page(line('completed', 7), 'fleet_q_steps_claimed 1'), counted(7)).length, 1)
  // Above 100,000 it is an estimate, and a fifth off is no lie.
  assert.deepEqual(compareCounts(page(line('completed', 190_000)), counted(200_000)), [])
  assert.equal(compareCounts(page(line('completed', 150_000)), counted(200_000)).length, 1)
})

test('a pod may end because it was asked to, killed, fenced or out of memory; every other end is told', () => {
  const end = { podId: 'pod-a', code: null, signal: null, isFenced: false, lastWords: 'its last words' }
  const fine: End[] = [
    { ...end, code: 0 },
    { ...end, signal: 'SIGKILL' },
    { ...end, code: 1, isFenced: true },
    { ...end, signal: 'SIGABRT', lastWords: 'JavaScript heap out of memory' },
  ]
  assert.deepEqual(fine.flatMap(strangeEnd), [])
  const strange: End[] = [
    { ...end, code: 1 },
    { ...end, code: 7, isFenced: true },
    { ...end, signal: 'SIGABRT' },
    { ...end, signal: 'SIGSEGV' },
  ]
  assert.equal(strange.flatMap(strangeEnd).length, strange.length)
  assert.match(String(strange.flatMap(strangeEnd)), /pod-a ended with SIGSEGV: its last words/)
})
