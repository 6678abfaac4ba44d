import type postgres from 'postgres'
import { sqlState } from '../../src/db/failure.ts'
import type { ClaimedStep, Want } from '../../src/step/claim.sql.ts'
import type { Report } from '../../src/step/settle.sql.ts'

/** A pod row that lives, without a pod behind it. */
export async function addPod(sql: postgres.Sql, types: string[] = ['a']): Promise<string> {
  const [pod] = await sql<{ id: string }[]>`
    insert into fleet_q.pods (public_id, name, version, types, capacity, dead_after_ms, leader_eligible)
    values (${`pod-${Math.random().toString(36).slice(2)}`}, 'pod', '0', ${types}, 100, 3600000, true)
    returning id`
  return pod?.id ?? ''
}

/** Declares it dead, as a leader would. */
export const killPod = (sql: postgres.Sql, id: string) => sql`
  update fleet_q.pods set status = 'dead', ended_at = fleet_q.clock(), ended_why = 'the test says so' where id = ${id}`

export async function addLane(
  sql: postgres.Sql,
  lane: { type?: string; priority?: number; key?: string } = {},
): Promise<number> {
  const { type = 'a', priority = 0, key = '' } = lane
  const [row] = await sql<{ id: number }[]>`select fleet_q.lane_of(${type}, ${priority}, ${key}) as id`
  return row?.id ?? 0
}

/** Steps in `ready`, in the order of their keys. */
export async function addSteps(sql: postgres.Sql, laneId: number, count: number): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    with fresh as (
      insert into fleet_q.steps (salt, lane_id, max_retries, args)
      select n, ${laneId}, 3, jsonb_build_object('n', n) from generate_series(1, ${count}::int) as n
      returning id, lane_id
    ),
    lying as (insert into fleet_q.ready (lane_id, step_id, attempt) select lane_id, id, 1 from fresh order by id)
    select id from fresh order by id`
  return rows.map((row) => row.id)
}

export const want = (podId: string, over: Partial<Want> = {}): Want => ({
  podId,
  types: ['a'],
  limit: 10,
  turns: [],
  markLanes: [],
  markPositions: [],
  frontLanes: [],
  frontPositions: [],
  ...over,
})

export const reportOf = (
  step: { claim_id: string; step_id: string; attempt: number },
  over: Partial<Report> = {},
): Report => ({
  claimId: step.claim_id,
  stepId: step.step_id,
  attempt: step.attempt,
  outcome: 'completed',
  ended: null,
  result: '{}',
  error: null,
  startedMs: performance.now() - 1,
  delayMs: null,
  nextAttempt: null,
  ...over,
})

export const failedOf = (
  step: { claim_id: string; step_id: string; attempt: number },
  over: Partial<Report> = {},
): Report =>
  reportOf(step, { outcome: 'failed', ended: 'failed', result: null, error: '{"message":"no"}', ...over })

/** Handed in with another attempt to come. */
export const againOf = (
  step: { claim_id: string; step_id: string; attempt: number },
  delayMs: number,
  over: Partial<Report> = {},
): Report =>
  reportOf(step, {
    outcome: null,
    ended: 'failed',
    result: null,
    delayMs,
    nextAttempt: step.attempt + 1,
    ...over,
  })

export const claimedOf = (rows: readonly { kind: string }[]): ClaimedStep[] =>
  rows.filter((row): row is ClaimedStep => row.kind === 'claimed')

/**
 * As a pod hands in: the short way, and where another outcome stands in the way of it, the long one with the same
 * reports.
 */
export async function handingIn<T>(reports: Report[], send: (reports: Report[]) => Promise<T>): Promise<T> {
  try {
    return await send(reports)
  } catch (error) {
    if (sqlState(error) !== '23505') throw error
    return await send(reports.map((report) => ({ ...report, mayStand: true })))
  }
}
