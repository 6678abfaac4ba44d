-- Which steps have been claimed for long, by whom, and is that pod still heard of?
-- The longest claimed first, 50 at most, only what was taken a minute ago or more. Read the last column first:
--   'its pod ended'          recovery takes it within seconds; if it stays, look at recovery-history.sql
--   'its pod is silent'      longer than it promised: the leader is about to declare it dead (leader-history.sql)
--   'over its timeout'       its pod lives but does not let go: a handler that ignores its signal
--   'stopping'               has its outcome already (cancelled); the pod has been told and has not let go yet
--   'its pod is heard of'    nothing wrong to be seen from here: a long step, or one that waits in its pod's prefetch
-- taken is when the pod took the batch, not when the handler began. timeout is empty where the pod's own default holds.
select
  fleet_q.step_public_id(step.id, step.salt, step.created_at) as step_id,
  lanes.type,
  held.attempt,
  date_trunc('second', fleet_q.clock() - oldest.taken_at) as taken,
  make_interval(secs => step.timeout_ms / 1000.0) as timeout,
  progress.percent,
  pods.public_id as pod,
  pods.status as pod_is,
  date_trunc('second', fleet_q.clock() - pods.beat_at) as silent,
  case
    when pods.status in ('dead', 'gone') then 'its pod ended'
    when pods.beat_at < fleet_q.clock() - make_interval(secs => pods.dead_after_ms / 1000.0) then 'its pod is silent'
    when outcome.step_id is not null then 'stopping'
    when oldest.taken_at < fleet_q.clock() - make_interval(secs => step.timeout_ms / 1000.0) then 'over its timeout'
    else 'its pod is heard of'
  end as why
from (
  select * from fleet_q.claims where taken_at < fleet_q.clock() - interval '1 minute'
  order by taken_at limit 1000
) as oldest
cross join unnest(oldest.step_ids, oldest.attempts) as held (step_id, attempt)
cross join lateral (
  select id, salt, created_at, lane_id, timeout_ms from fleet_q.steps where id = held.step_id offset 0
) as step
join fleet_q.lanes on lanes.id = step.lane_id
join fleet_q.pods on pods.id = oldest.pod_id
left join fleet_q.progress on progress.step_id = held.step_id and progress.claim_id = oldest.id
left join fleet_q.outcomes as outcome on outcome.step_id = held.step_id
where (outcome.step_id is null or outcome.claim_id is null)
  and not exists (
    select from fleet_q.attempts
    where attempts.step_id = held.step_id and attempts.claim_id = oldest.id offset 0)
order by oldest.taken_at, held.step_id
limit 50;
