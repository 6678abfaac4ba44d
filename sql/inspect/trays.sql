-- Does every step lie in exactly one tray, or have exactly one outcome?
-- Each row is a breach; no row is good. 100 rows at most. It reads every step: on a table of many millions it takes
-- minutes, and holds the xmin horizon back as long (set statement_timeout before it, or run it on a replica).
--   lost                     no outcome, and in no tray: nobody will ever run it
--   in several trays         no outcome, and in more than one place: it could run twice
--   settled, and in a tray   has its outcome, and lies in ready or later
--   without its letter       a tray or an outcome names a step that is not there
-- No breach, and left out: a cancelled step that still lies in ready or later (the claim that meets it drops it); a
-- step with an outcome in a claim (a claim names all its steps to its end); what lies in ready after retention has
-- thrown its cancelled letter away.
with held as materialized (
  select held.step_id, count(*) as claims
  from fleet_q.claims cross join unnest(claims.step_ids) as held (step_id)
  -- What was handed in for another attempt is held no more.
  where not exists (
    select from fleet_q.attempts
    where attempts.step_id = held.step_id and attempts.claim_id = claims.id offset 0)
  group by held.step_id
),
lying as materialized (
  select step_id, count(*) as rows from fleet_q.ready group by step_id
),
place as (
  select coalesce(step.id, outcome.step_id, later.step_id, held.step_id) as key, step.id, step.salt, step.created_at,
    step.lane_id, outcome.status, coalesce(lying.rows, 0) as ready, (later.step_id is not null)::int as later,
    coalesce(held.claims, 0) as claimed
  from fleet_q.steps as step
  full join fleet_q.outcomes as outcome on outcome.step_id = step.id
  full join fleet_q.later as later on later.step_id = coalesce(step.id, outcome.step_id)
  full join held on held.step_id = coalesce(step.id, outcome.step_id, later.step_id)
  left join lying on lying.step_id = step.id
)
select
  case
    when place.id is null then 'without its letter'
    when place.status is not null then 'settled, and in a tray'
    when place.ready + place.later + place.claimed = 0 then 'lost'
    else 'in several trays'
  end as breach,
  place.key,
  fleet_q.step_public_id(place.id, place.salt, place.created_at) as step_id,
  lanes.type,
  place.status as outcome,
  place.ready,
  place.later,
  place.claimed
from place
left join fleet_q.lanes on lanes.id = place.lane_id
where place.id is null
  or (place.status is null and place.ready + place.later + place.claimed <> 1)
  or (place.status <> 'cancelled' and place.ready + place.later > 0)
order by place.key
limit 100;
