-- How much waits of each type and priority, how old is the oldest, and is anybody there to take it?
-- The most urgent first, 100 rows at most.
--   ready    may start now; later: delayed, or waiting for its next attempt; overdue: should have moved to ready
--            already (more than a moment: no pod moves them, see leader-history.sql and who-holds-what.sql)
--   oldest   how long ago the oldest ready step was submitted
--   pods     living pods with a handler for the type: 0 explains a queue that does not move
--   paused   lanes of this row that a pause holds back: see fleet_q.pauses. limited: see fleet_q.limits
--   exact    false where counting stopped at 20,000 of a lane or 500,000 in all: there is at least so much
-- Cancelled steps that still lie in ready are left out.
with waiting as materialized (
  select lanes.id as lane_id, head.step_id, head.place,
    exists (select from fleet_q.outcomes where outcomes.step_id = head.step_id offset 0) as settled
  from (select id from fleet_q.lanes order by priority desc, id) as lanes
  cross join lateral (
    select step_id, row_number() over () as place
    from (
      select step_id from fleet_q.ready where ready.lane_id = lanes.id
      order by ready.lane_id, ready.position limit 20000
    ) as first
  ) as head
  limit 500000
),
ready as (
  select lane_id, count(*) filter (where not settled) as steps, min(step_id) filter (where not settled) as oldest,
    max(place) < 20000 and (select count(*) from waiting) < 500000 as exact
  from waiting group by lane_id
),
later as (
  select lane_id, count(*) as steps, count(*) filter (where due_at <= fleet_q.clock()) as overdue,
    min(due_at) as next_due
  from (select lane_id, due_at from fleet_q.later order by due_at limit 500000) as soonest group by lane_id
)
select
  lanes.type,
  lanes.priority,
  count(*) as lanes,
  coalesce(sum(ready.steps), 0) as ready,
  date_trunc('second', fleet_q.clock() - min(step.created_at)) as oldest,
  coalesce(sum(later.steps), 0) as later,
  coalesce(sum(later.overdue), 0) as overdue,
  date_trunc('second', min(later.next_due) - fleet_q.clock()) as next_due_in,
  (select count(*) from fleet_q.pods where status = 'live' and lanes.type = any (types)) as pods,
  count(*) filter (where exists (
    select from fleet_q.pauses as pause
    where (pause.type is null or pause.type = lanes.type) and (pause.key is null or pause.key = lanes.key)
      and (pause.until is null or pause.until > fleet_q.clock())
  )) as paused,
  exists (select from fleet_q.limits where limits.type = lanes.type) as limited,
  coalesce(bool_and(ready.exact), true) as exact
from fleet_q.lanes
left join ready on ready.lane_id = lanes.id
left join later on later.lane_id = lanes.id
left join fleet_q.steps as step on step.id = ready.oldest
where ready.steps > 0 or later.steps > 0
group by lanes.type, lanes.priority
order by lanes.priority desc, lanes.type
limit 100;
