-- What people and other programs use from SQL: a readable status, and a submit inside their own transaction.
-- Nothing to do beforehand; a view and functions only.

-- Where every step lies. For people: it joins all trays, so filter it by step_id or keep a limit on it.
create view fleet_q.step_status as
select
  fleet_q.step_public_id(step.id, step.salt, step.created_at) as step_id,
  step.id as key,
  lane.type,
  lane.priority,
  lane.key as lane_key,
  case
    when outcome.step_id is not null then outcome.status::text
    when claim.id is not null then 'claimed'
    else 'pending'
  end as status,
  case
    when outcome.step_id is not null then 'settled'
    when claim.id is not null then 'claimed'
    when later.step_id is not null then 'later'
    else 'ready'
  end as tray,
  coalesce(outcome.attempt, claim.attempt, later.attempt) as attempt,
  step.max_retries,
  pod.public_id as pod_id,
  step.created_at,
  later.due_at,
  coalesce(outcome.started_at, claim.taken_at) as started_at,
  outcome.settled_at,
  outcome.error ->> 'message' as error
from fleet_q.steps as step
join fleet_q.lanes as lane on lane.id = step.lane_id
left join fleet_q.outcomes as outcome on outcome.step_id = step.id
left join fleet_q.later as later on later.step_id = step.id
left join lateral (
  select claims.id, claims.pod_id, claims.taken_at,
    claims.attempts[array_position(claims.step_ids, step.id)] as attempt
  from fleet_q.claims where step.id = any (claims.step_ids)
  limit 1
) as claim on outcome.step_id is null
left join fleet_q.pods as pod on pod.id = coalesce(outcome.pod_id, claim.pod_id);

-- The lane of (type, priority, key), made when it is first seen. The look-up comes first: an insert that
-- conflicts burns a number of the identity each time.
create function fleet_q.lane_of(type text, priority int, key text) returns int
language plpgsql volatile as $$
declare
  found int;
begin
  loop
    select lanes.id into found from fleet_q.lanes
    where lanes.type = lane_of.type and lanes.priority = lane_of.priority and lanes.key = lane_of.key;
    if found is not null then return found; end if;
    insert into fleet_q.lanes (type, priority, key) values (lane_of.type, lane_of.priority, lane_of.key)
    on conflict do nothing returning lanes.id into found;
    if found is not null then return found; end if;
  end loop;
end $$;

-- Submits a step inside the caller's own transaction, from any language. Nothing is notified here: a
-- notification inside a transaction takes a global lock through its commit (13.5k commits a second become
-- 4.8k). Pods find the step when they next look; call fleet_q.wake() after the commit to have it claimed at once.
create function fleet_q.submit(
  type text,
  args jsonb default '{}',
  metadata jsonb default null,
  priority int default 0,
  max_retries int default 3,
  run_at timestamptz default null,
  key text default '',
  timeout_seconds double precision default null,
  retry jsonb default null,
  expires_at timestamptz default null,
  tags text[] default null
) returns text
language plpgsql volatile as $$
declare
  lane int := fleet_q.lane_of(type, priority, coalesce(key, ''));
  step fleet_q.steps;
begin
  if type !~ '^[A-Za-z0-9][A-Za-z0-9_.:/-]*$' then
    raise exception 'fleet_q: % is not a type: letters, digits and _ . : / - only', quote_literal(type)
      using errcode = 'invalid_parameter_value';
  end if;
  insert into fleet_q.steps (salt, lane_id, max_retries, timeout_ms, run_at, expires_at, args, metadata, retry, tags)
  values (
    fleet_q.new_salt(), lane, submit.max_retries, (submit.timeout_seconds * 1000)::int, submit.run_at,
    submit.expires_at, submit.args, submit.metadata, submit.retry, submit.tags
  )
  returning * into step;
  if step.run_at > fleet_q.clock() then
    insert into fleet_q.later (step_id, lane_id, due_at, attempt, why) values (step.id, lane, step.run_at, 1, 'delay');
  else
    insert into fleet_q.ready (lane_id, step_id, attempt) values (lane, step.id, 1);
  end if;
  return fleet_q.step_public_id(step.id, step.salt, step.created_at);
end $$;

-- Rings every pod: there is work. Call it after the commit, not before.
create function fleet_q.wake() returns void
language sql volatile as $$ select pg_notify('fleet_q', '{"kind":"ready"}') $$;
