import type { Sql } from '../../../src/db/connect.ts'
import { claimLimited, lockLimits, type ClaimedStep } from '../../../src/step/claim.sql.ts'
import { exchange } from '../../../src/step/exchange.sql.ts'
import { settle, type Report } from '../../../src/step/settle.sql.ts'
import { newSalt, publicId } from '../../../src/step/step.ts'
import { findLanes, insertSteps } from '../../../src/step/submit.sql.ts'
import { claimedOf, reportOf, want } from '../../sql/arrange.ts'

/** What a client, pods and leaders do in a run of chaos, by the product's own statements, without any of them. */

export interface Made {
  op: string
  /** As the client knows it, and as the tables do. */
  stepId: string
  key: string
}

interface Wish {
  type?: string
  laneKey?: string
  maxRetries?: number
  delayMs?: number
  /** Its client was never told. */
  untold?: true
}

/** Submits one step, and writes down that the client was told. */
export async function submit(sql: Sql, op: string, wish: Wish = {}): Promise<Made> {
  const { type = 'plain', laneKey = '', maxRetries = 3, delayMs = null } = wish
  const [lane] = await findLanes(sql, [{ type, priority: 0, key: laneKey }])
  const salt = newSalt()
  const [row] = await insertSteps(sql, [
    {
      laneId: lane?.id ?? 0,
      salt,
      maxRetries,
      timeoutMs: null,
      runAt: null,
      delayMs,
      expiresAt: null,
      args: JSON.stringify({ op }),
      metadata: null,
      retry: null,
      tags: null,
      parentId: null,
      detached: false,
    },
  ])
  const key = row?.id ?? ''
  const stepId = publicId({ id: key, salt, createdAt: new Date(row?.created_at ?? '') })
  if (!wish.untold) await tell(sql, 'submit', { op, stepId })
  return { op, stepId, key }
}

export const tell = (sql: Sql, f: string, { op, stepId }: Pick<Made, 'op' | 'stepId'>) => sql`
  insert into chaos.history (op, f, step_id, at) values (${op}, ${f}, ${stepId}, clock_timestamp())`

/** A pod takes what lies in the lanes of a type. */
export const take = async (sql: Sql, pod: string, type = 'plain'): Promise<ClaimedStep[]> =>
  claimedOf(await exchange(sql, want(pod, { types: [type] }), [], []))

export async function takeLimited(sql: Sql, pod: string, type: string): Promise<ClaimedStep[]> {
  await lockLimits(sql, [type])
  return claimedOf(await claimLimited(sql, want(pod, { types: [type] }), [type]))
}

/** Hands in how they ended, and lets go of their claims. */
export const handIn = (sql: Sql, pod: string, reports: Report[]) =>
  settle(sql, pod, reports, [...new Set(reports.map((report) => report.claimId))])

/** Takes all that lies there, and completes it. */
export async function work(sql: Sql, pod: string, type = 'plain') {
  const taken = await take(sql, pod, type)
  await handIn(
    sql,
    pod,
    taken.map((step) => reportOf(step)),
  )
}

/** What the statements of the product forbid, by hand: a claim over whatever steps. Answers its id. */
export async function forgeClaim(sql: Sql, pod: string, keys: string[], attempt = 1): Promise<string> {
  const [row] = await sql<{ id: string }[]>`
    insert into fleet_q.claims (pod_id, step_ids, attempts)
    values (${pod}, ${keys}::bigint[], array_fill(${attempt}::smallint, array[${keys.length}::int])) returning id`
  return row?.id ?? ''
}

export const forgeOutcome = (sql: Sql, pod: string, claim: string, key: string, attempt = 1) => sql`
  insert into fleet_q.outcomes (step_id, status, attempt, claim_id, pod_id)
  values (${key}, 'completed', ${attempt}, ${claim}, ${pod})`

export const forgeAttempt = (sql: Sql, pod: string, claim: string, key: string, ended = 'failed') => sql`
  insert into fleet_q.attempts (step_id, claim_id, attempt, pod_id, ended, started_at)
  values (${key}, ${claim}, 1, ${pod}, ${ended}::fleet_q.attempt_end, now())`

/** Takes a claim away in a transaction that was over before this one began. */
export async function takeAway(sql: Sql, claim: string) {
  await sql`delete from fleet_q.claims where id = ${claim}`
  await sql`update chaos.audit set tx = '3' where what = 'gone' and claim_id = ${claim}`
}

/** Out of all trays, without an outcome. */
export const takeOut = (sql: Sql, key: string) => sql`delete from fleet_q.ready where step_id = ${key}`

/** All of them under one claim, whatever is allowed. */
export async function runAtOnce(sql: Sql, pod: string, ops: string[], wish: Wish) {
  const keys: string[] = []
  for (const op of ops) keys.push((await submit(sql, op, wish)).key)
  for (const key of keys) await takeOut(sql, key)
  const claim = await forgeClaim(sql, pod, keys)
  await handIn(
    sql,
    pod,
    keys.map((key) => reportOf({ claim_id: claim, step_id: key, attempt: 1 })),
  )
}
