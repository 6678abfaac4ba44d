import type { Sql } from '../db/connect.ts'

/**
 * Gives steps their outcome from outside. The primary key decides every race: a step that got its outcome first
 * keeps it. What lies in `ready` stays there and is dropped by the claim that meets it (`ready` has no index by step).
 */
export const cancelSteps = (sql: Sql, stepIds: string[], reason: string) => sql<
  { step_id: string; claimed: boolean }[]
>`
  with /* step.cancel */ claimed as materialized (
    select held.step_id, held.attempt
    from fleet_q.claims, unnest(claims.step_ids, claims.attempts) as held (step_id, attempt)
    where claims.step_ids && ${stepIds}::bigint[] and held.step_id = any (${stepIds}::bigint[])
      and ${stillHeld(sql)}
  ),
  cancelled as (
    insert into fleet_q.outcomes (step_id, status, attempt, error)
    select steps.id, 'cancelled', coalesce(claimed.attempt, later.attempt, 0),
      jsonb_build_object('class', 'Cancelled', 'message', ${reason}::text)
    from fleet_q.steps
    left join claimed on claimed.step_id = steps.id
    left join lateral (select attempt from fleet_q.later where step_id = steps.id offset 0) as later on true
    where steps.id = any (${stepIds}::bigint[])
    order by steps.id
    -- Against retention, which may throw the letter away meanwhile: an outcome without a letter would stay behind.
    for key share of steps
    on conflict (step_id) do nothing
    returning step_id
  ),
  off_the_tray as (
    delete from fleet_q.later where step_id = any (array(select step_id from cancelled))
  )
  select cancelled.step_id, claimed.step_id is not null as claimed
  from cancelled left join claimed using (step_id)`

/**
 * Of these steps those that have something to undo: they are told that they are cancelled, and go on, to undo it. They get
 * their outcome from the pod that has done so. Not those that could not: they are parked, for their code does not fit what
 * they remember, and who cancels them again gives that up.
 */
export const askToUndo = (sql: Sql, stepIds: string[], reason: string) => sql<{ step_id: string }[]>`
  with /* step.ask_to_undo */ undoing as materialized (
    select distinct step_id from fleet_q.checkpoints
    where step_id = any (${stepIds}::bigint[]) and kind = 'undo' and turn is not null
      and not exists (select from fleet_q.outcomes where outcomes.step_id = checkpoints.step_id offset 0)
      and not exists (
        select from fleet_q.later
        join fleet_q.checkpoints as asked on asked.step_id = later.step_id and asked.name = '$failure' and asked.number = 1
        where later.step_id = checkpoints.step_id and later.why::text = 'attention' offset 0)
  ),
  told as (
    insert into fleet_q.checkpoints (step_id, name, number, kind, after_turn, claim_id, error)
    select step_id, '$failure', 1, 'failure', 0, 0,
      jsonb_build_object('class', 'Cancelled', 'message', ${reason}::text)
    from undoing order by step_id
    on conflict (step_id, name, number) do nothing
  ),
  off_the_tray as (
    delete from fleet_q.later where step_id = any (array(select step_id from undoing))
    returning step_id, lane_id
  ),
  to_ready as (
    insert into fleet_q.ready (lane_id, step_id, attempt)
    select lane_id, step_id, 1 from off_the_tray order by step_id
  )
  select step_id from undoing`

/** Steps that were submitted by these and go with them. */
export const findFollowers = (sql: Sql, stepIds: string[]) => sql<{ id: string }[]>`
  select /* step.followers */ id from fleet_q.steps
  where parent_id = any (${stepIds}::bigint[]) and not detached
    and not exists (select from fleet_q.outcomes where outcomes.step_id = steps.id offset 0)
  order by id`

/** What was cancelled with these, because they had submitted it. */
export const findCancelledWith = (sql: Sql, stepIds: string[]) => sql<{ id: string }[]>`
  select /* step.cancelled_with */ steps.id from fleet_q.steps
  cross join lateral (select status, error from fleet_q.outcomes where step_id = steps.id offset 0) as outcome
  where parent_id = any (${stepIds}::bigint[]) and not detached
    and outcome.status = 'cancelled' and outcome.error ->> 'message' = ${CANCELLED_WITH}
    -- Not what is submitted anew.
    and not exists (
      select from fleet_q.past_checkpoints as past
      where past.step_id = steps.parent_id and (
        past.kind = 'child' and past.child_id = steps.id
        or past.kind = 'children'
          and past.result @> to_jsonb(fleet_q.step_public_id(steps.id, steps.salt, steps.created_at)))
      offset 0)
  order by steps.id`

/** Whoever waited for these waits again, where it has not been told how they ended. */
export const takeAnswersBack = (sql: Sql, stepIds: string[]) => sql`
  update /* step.take_answers_back */ fleet_q.checkpoints set arrived_at = null
  where step_id = any (array(
      select parent_id from fleet_q.steps where id = any (${stepIds}::bigint[]) and parent_id is not null))
    and kind in ('result', 'results') and turn is null and arrived_at is not null`

export const CANCELLED_WITH = 'what had submitted it was cancelled'

/**
 * Puts the outcome of a step aside, so that it can be tried again. Two at once meet at the outcome's row.
 * `status::text`: the planner would otherwise walk all of `outcomes_not_completed`, whose condition this is, for a few
 * keys.
 */
export const putOutcomeAside = (sql: Sql, stepIds: string[]) => sql<
  { step_id: string; lane_id: number; status: string }[]
>`
  with /* step.put_aside */ stopping as materialized (
    -- A pod that has not let go yet could still hand in the old attempt: such a step has to wait.
    select held.step_id from fleet_q.claims, unnest(claims.step_ids) as held (step_id)
    where claims.step_ids && ${stepIds}::bigint[] and ${stillHeld(sql)}
      and not exists (
        select from fleet_q.outcomes
        where outcomes.step_id = held.step_id and outcomes.claim_id = claims.id offset 0)
  ),
  chosen as materialized (
    select outcomes.step_id, letter.reason
    from fleet_q.outcomes
    left join lateral (
      select reason from fleet_q.dead_letters where dead_letters.step_id = outcomes.step_id offset 0
    ) as letter on true
    where outcomes.step_id = any (${stepIds}::bigint[]) and outcomes.status::text <> 'completed'
      and outcomes.step_id not in (select step_id from stopping)
    order by outcomes.step_id
    for update of outcomes
  ),
  aside as (
    delete from fleet_q.outcomes where step_id = any (array(select step_id from chosen))
    returning step_id, status, attempt, claim_id, pod_id, started_at, settled_at, error
  ),
  -- Its claim may stand for others that run: recovery must not take this for a step that nobody handed in. And the
  -- history of the step stays whole.
  handed_in as (
    insert into fleet_q.attempts (step_id, claim_id, attempt, pod_id, ended, started_at, ended_at, error)
    select step_id, claim_id, attempt, pod_id, (case
        when aside.status <> 'failed' then 'released'
        when chosen.reason = 'timeout' then 'timeout'
        when chosen.reason in ('dead_pod', 'poison') then 'pod_died'
        else 'failed' end)::fleet_q.attempt_end,
      coalesce(started_at, settled_at), settled_at, error
    from aside join chosen using (step_id)
    where claim_id is not null
    order by step_id, claim_id
    on conflict (step_id, claim_id) do nothing
  ),
  kept as (
    insert into fleet_q.redrives (step_id, status, attempt, reason, error)
    select aside.step_id, aside.status, aside.attempt, chosen.reason, aside.error
    from aside join chosen using (step_id)
  )
  select aside.step_id, step.lane_id, aside.status
  from aside cross join lateral (select lane_id from fleet_q.steps where id = aside.step_id offset 0) as step`

/** A claim names all its steps to its end; one that was handed in with another attempt to come is held no more. */
const stillHeld = (sql: Sql) => sql`
  not exists (
    select from fleet_q.attempts
    where attempts.step_id = held.step_id and attempts.claim_id = claims.id offset 0)`

/** Takes steps out of `ready`, where a cancelled one may still lie: within their lanes, there is no index by step. */
export const removeFromReady = (sql: Sql, laneIds: number[], stepIds: string[]) => sql`
  delete /* step.unready */ from fleet_q.ready
  where lane_id = any (${laneIds}::int[]) and (step_id in (select unnest(${stepIds}::bigint[]))) is true`

/**
 * And out of `later`: an attempt that failed while its step was cancelled has put its next one there. Left behind, it
 * would come due beside the new first attempt, and the step would run twice.
 */
export const removeFromLater = (sql: Sql, stepIds: string[]) => sql`
  delete /* step.unlater */ from fleet_q.later where step_id = any (${stepIds}::bigint[])`

/**
 * As a first attempt again: an operator's wish opens a new budget of retries. Not where a claim holds the step: an
 * exchange that began before the step was cancelled did not see that, and has taken it meanwhile.
 */
export const putInReady = (sql: Sql, steps: { step_id: string; lane_id: number }[]) => sql`
  insert /* step.put_in_ready */ into fleet_q.ready (lane_id, step_id, attempt)
  select lane_id, step_id, 1
  from unnest(${steps.map((s) => s.lane_id)}::int[], ${steps.map((s) => s.step_id)}::bigint[]) as s (lane_id, step_id)
  where step_id not in (
    select held.step_id from fleet_q.claims, unnest(claims.step_ids) as held (step_id) where ${stillHeld(sql)})
  order by step_id`
