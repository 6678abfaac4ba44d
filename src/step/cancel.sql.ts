import type { Sql } from '../db/connect.ts'

/**
 * Gives steps their outcome from outside. The primary key decides every race: a step that got its outcome first
 * keeps it. What lies in `ready` stays there and is dropped by the claim that meets it (`ready` has no index by step).
 */
export const cancelSteps = (sql: Sql, stepIds: string[], reason: string) => sql<{ step_id: string; claimed: boolean }[]>`
  with /* step.cancel */ claimed as materialized (
    select held.step_id, held.attempt
    from fleet_q.claims, unnest(claims.step_ids, claims.attempts) as held (step_id, attempt)
    where claims.step_ids && ${stepIds}::bigint[] and held.step_id = any (${stepIds}::bigint[])
  ),
  cancelled as (
    insert into fleet_q.outcomes (step_id, status, attempt, error)
    select steps.id, 'cancelled', coalesce(claimed.attempt, later.attempt, 0),
      jsonb_build_object('class', 'Cancelled', 'message', ${reason}::text)
    from fleet_q.steps
    left join claimed on claimed.step_id = steps.id
    left join fleet_q.later on later.step_id = steps.id
    where steps.id = any (${stepIds}::bigint[])
    order by steps.id
    on conflict (step_id) do nothing
    returning step_id
  ),
  off_the_tray as (
    delete from fleet_q.later where step_id in (select step_id from cancelled)
  )
  select cancelled.step_id, claimed.step_id is not null as claimed
  from cancelled left join claimed using (step_id)`

/** Puts the outcome of a step aside, so that it can be tried again. Two at once meet at the outcome's row. */
export const putOutcomeAside = (sql: Sql, stepIds: string[]) => sql<{ step_id: string; lane_id: number }[]>`
  with /* step.put_aside */ stopping as materialized (
    -- A pod that has not let go yet could still hand in the old attempt: such a step has to wait.
    select held.step_id from fleet_q.claims, unnest(claims.step_ids) as held (step_id)
    where claims.step_ids && ${stepIds}::bigint[]
  ),
  chosen as materialized (
    select outcomes.step_id, dead_letters.reason
    from fleet_q.outcomes left join fleet_q.dead_letters using (step_id)
    where outcomes.step_id = any (${stepIds}::bigint[]) and outcomes.status <> 'completed'
      and outcomes.step_id not in (select step_id from stopping)
    order by outcomes.step_id
    for update of outcomes
  ),
  aside as (
    delete from fleet_q.outcomes where step_id in (select step_id from chosen)
    returning step_id, status, attempt, error
  ),
  kept as (
    insert into fleet_q.redrives (step_id, status, attempt, reason, error)
    select aside.step_id, aside.status, aside.attempt, chosen.reason, aside.error
    from aside join chosen using (step_id)
  )
  select aside.step_id, steps.lane_id from aside join fleet_q.steps on steps.id = aside.step_id`

/** Takes steps out of `ready`, where a cancelled one may still lie: within their lanes, there is no index by step. */
export const removeFromReady = (sql: Sql, laneIds: number[], stepIds: string[]) => sql`
  delete /* step.unready */ from fleet_q.ready
  where lane_id = any (${laneIds}::int[]) and step_id = any (${stepIds}::bigint[])`

/** As a first attempt again: an operator's wish opens a new budget of retries. */
export const putInReady = (sql: Sql, steps: { step_id: string; lane_id: number }[]) => sql`
  insert /* step.put_in_ready */ into fleet_q.ready (lane_id, step_id, attempt)
  select lane_id, step_id, 1
  from unnest(${steps.map((s) => s.lane_id)}::int[], ${steps.map((s) => s.step_id)}::bigint[]) as s (lane_id, step_id)
  order by step_id`
