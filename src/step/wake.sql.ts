import type { Sql } from '../db/connect.ts'

/**
 * The letters of executions that go to sleep over an event or another step, and of those that wait for steps that end
 * now, in key order. Whoever sends an event or ends a step locks the same rows, and looks after that, in a statement of
 * its own: then one of the two sees the other.
 *
 * Before anything else, but for recovery, which has the claims of the dead by then: two that lock letters and outcomes
 * crosswise would deadlock.
 */
export const lockLetters = (sql: Sql, waiting: string[], ended: string[]) => sql`
  select /* execution.lock */ id from fleet_q.steps
  where id = any (${waiting}::bigint[] || array(
    select parent_id from fleet_q.steps where id = any (${ended}::bigint[]) and parent_id is not null))
  order by id
  for no key update`

/** Waits whose answer is there get it, and executions that went to sleep over them go on. */
export const answerWaits = (sql: Sql, stepIds: string[]) => sql<{ step_id: string }[]>`
  with /* execution.answer */ ended as (
    update fleet_q.checkpoints set arrived_at = fleet_q.clock()
    where step_id = any (${stepIds}::bigint[]) and kind = 'result' and turn is null and arrived_at is null
      -- What was forgotten has ended.
      and (exists (select from fleet_q.outcomes where outcomes.step_id = checkpoints.child_id offset 0)
        or not exists (select from fleet_q.steps where steps.id = checkpoints.child_id offset 0))
    returning step_id
  ),
  answered as materialized (
    select step_id from ended
    union select match_events from fleet_q.match_events(${stepIds}::bigint[])
    union select match_results from fleet_q.match_results(${stepIds}::bigint[])
    -- While this one went to sleep.
    union select step_id from fleet_q.checkpoints
      where step_id = any (${stepIds}::bigint[]) and turn is null and arrived_at is not null
  )
  select step_id from answered where fleet_q.end_waits(array(select step_id from answered)) >= 0`

/** Whoever waits for these steps has its answer: they have ended. */
export const answerParents = (sql: Sql, stepIds: string[]) => sql<{ woken: number }[]>`
  select /* execution.answer_parents */ fleet_q.answer_parents(${stepIds}::bigint[]) as woken`

/** How steps that an execution waits for have ended. */
export const findOutcomes = (sql: Sql, stepIds: string[]) => sql<
  { step_id: string; status: string; result: unknown; error: { class?: string; message?: string } | null }[]
>`
  select /* execution.outcomes */ wanted.step_id,
    coalesce(outcome.status::text, case when letter.id is null then 'forgotten' else 'pending' end) as status,
    outcome.result, outcome.error
  from unnest(${stepIds}::bigint[]) as wanted (step_id)
  left join lateral (select * from fleet_q.outcomes where outcomes.step_id = wanted.step_id offset 0) as outcome on true
  left join lateral (select id from fleet_q.steps where steps.id = wanted.step_id offset 0) as letter on true`

/** Of these those that were cancelled and have something to undo, and that do not know it yet. */
export const findToldToUndo = (sql: Sql, stepIds: string[]) => sql<{ step_id: string }[]>`
  select /* execution.told_to_undo */ step_id from fleet_q.checkpoints
  where step_id = any (${stepIds}::bigint[]) and name = '$failure' and number = 1 and turn is null`
