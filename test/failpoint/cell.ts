import assert from 'node:assert/strict'
import type postgres from 'postgres'
import type { Place } from '../../src/kernel/failpoint.ts'
import { allSettled, assertSound, endOf, heldBy, podRow } from '../recovery/fleet.ts'
import { get, post, submit as submitOne } from '../support/http.ts'
import { until } from '../support/until.ts'
import { WAIT_MS, type ArmedPod, type Fleet } from './fleet.ts'
import { setScene, type Kind, type Operation, type Scene } from './scene.ts'

/** One cell of the matrix: something is done, a pod meets its failpoint on the way, and all must end well. */
export async function play(fleet: Fleet, operation: Operation, place: Place, kind: Kind): Promise<string> {
  const { sql } = fleet
  const cast = await fleet.cast(operation.role)
  const before = await census(sql)
  const scene = setScene(fleet, cast, place, kind)
  const startedAt = performance.now()
  const held = await goThrough(scene, operation)
  if (kind === 'delay') assert.deepEqual(await census(sql), before, 'a delay did something')
  return `${held > 0 ? `${held} held, ` : ''}${Math.round(performance.now() - startedAt)} ms`
}

/** How many steps were at stake. */
async function goThrough(scene: Scene, operation: Operation): Promise<number> {
  const { sql, armed, other, kind } = scene
  if (operation.alone) await drain(other, true)
  await operation.drive(scene)
  const isFatal = kind === 'kill' || kind === 'stop'
  const held = isFatal ? (await heldBy(sql, armed)).length : 0
  if (isFatal && operation.holds) assert.ok(held > 0, 'nothing was at stake')
  if (operation.alone) await drain(other, false)
  if (isFatal || operation.ends) await meetsItsEnd(scene, operation)
  await scene.working
  await operation.after?.(scene)
  await allSettled(sql, WAIT_MS)
  await assertSound(sql)
  await assertWhole(sql)
  if (isFatal || operation.ends) await until('the fleet to know of its end', () => hasEnded(scene), WAIT_MS)
  else await assertWell(scene)
  assert.ok(!other.isOver, `the other pod ended:\n${other.output().slice(-2000)}`)
  return held
}

const hasEnded = async ({ sql, armed }: Scene) => ['dead', 'gone'].includes((await podRow(sql, armed)).status)

const drain = async ({ url, id }: ArmedPod, enabled: boolean) =>
  assert.equal((await post(url, `/admin/pods/${id}/drain`, { enabled })).status, 200)

/** Killed: gone. Frozen: declared dead, and it knows so when it goes on. Asked to end: it ends, badly if it must. */
async function meetsItsEnd(scene: Scene, { ends }: Operation) {
  const { armed, fleet, kind } = scene
  if (kind === 'stop') {
    await until('it to be declared dead', () => hasEnded(scene), WAIT_MS)
    armed.signal('SIGCONT')
  }
  const end = await endOf(armed, WAIT_MS)
  fleet.replace(armed)
  if (kind === 'kill') assert.deepEqual(end, { code: null, signal: 'SIGKILL' })
  else if (kind === 'throw') assert.equal(end.code, 1)
  else if (kind === 'delay') assert.equal(end.code, 0)
  else if (ends) assert.ok(end.code === 0 || end.code === 1, `it ended by ${end.signal}`)
  else {
    assert.deepEqual(end, { code: 1, signal: null })
    assert.match(armed.output(), /declared dead/)
  }
}

/** It lives, the fleet knows, it answers and works, and nothing came to it as a surprise. */
async function assertWell({ armed, sql, fleet, name }: Scene) {
  const op = `${name}-after`
  const stepId = await submitOne(armed.url, { type: 'plain', args: { op } })
  fleet.told.push({ op, f: 'submit', stepId, at: new Date() })
  await allSettled(sql, WAIT_MS)
  assert.equal((await podRow(sql, armed)).status, 'live')
  assert.equal((await get(armed.url, '/health')).status, 200)
  assert.ok(!armed.isOver && !armed.output().includes('that nobody caught'))
}

/** Terms and cycles: one open term at most, held by a living pod; no cycle that nobody will close. */
const assertWhole = (sql: postgres.Sql) =>
  until(
    'a leader that lives, no cycle that is left open, and nothing due',
    async () => {
      const [row] = await sql`
        select
          (select array_agg(pods.status::text) from fleet_q.leader_terms join fleet_q.pods on pods.id = pod_id
            where leader_terms.ended_at is null) = '{live}'
          and not exists (select from fleet_q.recovery_cycles where finished_at is null)
          and not exists (select from fleet_q.recovery_requests where answered_at is null)
          and not exists (select from fleet_q.ready
            where not exists (select from fleet_q.outcomes where outcomes.step_id = ready.step_id))
          and not exists (select from fleet_q.later
            where not exists (select from fleet_q.outcomes where outcomes.step_id = later.step_id)) as whole`
      return row?.['whole'] === true
    },
    WAIT_MS,
  )

/** What only a fault may add to. */
async function census(sql: postgres.Sql) {
  const [row] = await sql`
    select
      (select count(*)::int from fleet_q.pods where status = 'dead' and name <> 'victim') as dead,
      (select sum(refused)::int from fleet_q.pods) as refused,
      (select count(*)::int from fleet_q.recovery_cycles where error is not null) as broken_cycles,
      (select count(*)::int from fleet_q.leader_terms where ended_why like 'its round failed:%') as failed_terms,
      (select count(*)::int from fleet_q.attempts where ended in ('timeout')) as timeouts,
      (select count(*)::int from fleet_q.attempts join fleet_q.pods on pods.id = pod_id
        where ended = 'pod_died' and name <> 'victim') as lost`
  return { ...row }
}
