-- Which pod holds how many steps of which type, and since when?
-- A row for each pod and type, those that hold most first, 100 at most; a living pod that holds nothing has one row
-- without a type. A pod takes its free slots and a small prefetch, so held may exceed capacity a little.
-- Rows of a pod that is dead or gone are waiting for recovery: seconds, not minutes. silent beyond dead_after: the
-- next to be declared dead. refused: late answers of that pod that came after its claim was taken from it.
select
  pods.public_id as pod,
  pods.status as pod_is,
  pods.drain_wanted as draining_wanted,
  date_trunc('second', fleet_q.clock() - pods.beat_at) as silent,
  make_interval(secs => pods.dead_after_ms / 1000.0) as dead_after,
  pods.capacity,
  held.type,
  coalesce(held.steps, 0) as held,
  held.retried,
  date_trunc('second', fleet_q.clock() - held.oldest) as oldest_taken,
  pods.refused
from fleet_q.pods
left join (
  select claims.pod_id, lanes.type, count(*) as steps, count(*) filter (where held.attempt > 1) as retried,
    min(claims.taken_at) as oldest
  from fleet_q.claims
  cross join unnest(claims.step_ids, claims.attempts) as held (step_id, attempt)
  cross join lateral (select lane_id from fleet_q.steps where id = held.step_id offset 0) as step
  join fleet_q.lanes on lanes.id = step.lane_id
  where not exists (select from fleet_q.outcomes where outcomes.step_id = held.step_id offset 0)
    -- A claim names all its steps to its end; what was handed in for another attempt is held no more.
    and not exists (
      select from fleet_q.attempts
      where attempts.step_id = held.step_id and attempts.claim_id = claims.id offset 0)
  group by claims.pod_id, lanes.type
) as held on held.pod_id = pods.id
where held.steps > 0 or pods.status in ('live', 'draining')
order by coalesce(held.steps, 0) desc, pods.id, held.type
limit 100;
