import type { Sql } from '../db/connect.ts'

/** What a pod holds, and what has become of it. */

/** Claims of this pod that it does not know: the answer to an exchange was lost on the way, the commit was not. */
export const findStrayClaims = (
  sql: Sql,
  podId: string,
  knownClaims: string[],
  olderThanSeconds: number,
) => sql<{ id: string; step_ids: string[]; attempts: number[] }[]>`
  select /* step.stray_claims */ id, step_ids, attempts from fleet_q.claims
  where pod_id = ${podId} and id <> all (${knownClaims}::bigint[])
    and taken_at <= fleet_q.clock() - make_interval(secs => ${olderThanSeconds})`

/** Which of these steps have their outcome. */
export const findSettled = (sql: Sql, stepIds: string[]) => sql<{ step_id: string }[]>`
  select /* step.settled */ step_id from fleet_q.outcomes where step_id = any (${stepIds}::bigint[])`

/** Which of the steps that this pod runs an operator has cancelled, or paused. */
export const findSettledElsewhere = (sql: Sql, stepIds: string[]) => sql<
  { step_id: string; status: string }[]
>`
  select /* step.settled_elsewhere */ step_id, status::text from fleet_q.outcomes
  where step_id = any (${stepIds}::bigint[])
  union all
  -- To be undone, and its handler does not know yet.
  select step_id, 'undo' from fleet_q.checkpoints
  where step_id = any (${stepIds}::bigint[]) and name = '$failure' and number = 1 and turn is null
  union all
  select held.step_id, 'paused'
  from unnest(${stepIds}::bigint[]) as held (step_id) cross join lateral fleet_q.pause_of(held.step_id)
  where (select exists (select from fleet_q.execution_pauses))`
