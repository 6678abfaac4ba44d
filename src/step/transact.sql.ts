import type { Sql } from '../db/connect.ts'

/** Of transactions that a handler or an execution writes in. */

/**
 * From its settle on a transaction holds its claim, and recovery cannot take that from a pod that was frozen before the
 * commit: the rest that users' transactions may take, a minute, would keep the other steps of the claim for so long.
 */
export const boundRest = (sql: Sql) => sql`
  /* step.bound_rest */ set local idle_in_transaction_session_timeout = '10s'`

/** Waits for a settle in flight under this claim: it holds the row FOR KEY SHARE. */
export const lockClaim = (sql: Sql, claimId: string) => sql`
  select /* step.lock_claim */ id from fleet_q.claims where id = ${claimId} for update`

/** By its handler: recovery gives an outcome under the same claim too, when it gives a step up. */
export const wasCompleted = (sql: Sql, claimId: string, stepId: string) => sql<{ step_id: string }[]>`
  select /* step.was_completed */ step_id from fleet_q.outcomes
  where step_id = ${stepId} and claim_id = ${claimId} and status = 'completed'`

/** While it is held neither release nor recovery ends this claim; no row where it is gone, or this step handed in. */
export const shareClaim = (sql: Sql, claimId: string, stepId: string) => sql<{ id: string }[]>`
  select /* step.share_claim */ id from fleet_q.claims
  where id = ${claimId} and not exists (select from fleet_q.outcomes where step_id = ${stepId} offset 0)
    and not exists (select from fleet_q.attempts where step_id = ${stepId} and claim_id = ${claimId} offset 0)
  for key share`
