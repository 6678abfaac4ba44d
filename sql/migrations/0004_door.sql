-- What people and other programs use from SQL: a readable status, and a submit inside their own transaction.
-- Nothing to do beforehand; a view and functions only.

-- Where every step lies. For people: it joins all trays, so keep a limit on it, or look for one step by its key:
-- where key = fleet_q.step_key('step_...').
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
  from fleet_q.claims
  where outcome.step_id is null and claims.step_ids @> array[step.id]
    -- A claim names all its steps to its end; one that was handed in with another attempt to come is held no more.
    and not exists (
      select from fleet_q.attempts where attempts.step_id = step.id and attempts.claim_id = claims.id offset 0)
  limit 1
) as claim on true
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
  lane int;
  step fleet_q.steps;
  -- The same limits as over HTTP. A null means the default; a retry that cannot be reckoned with would reach a pod.
  wrong text := case
    when type is null or type !~ '^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,199}$' then format(
      '%s is not a type: it must be 1 to 200 letters, digits and _ . : / - only, and begin with a letter or digit',
      quote_nullable(left(type, 200)))
    when priority not between -1000 and 1000 then format('priority %s is not between -1000 and 1000', priority)
    when max_retries not between 0 and 1000 then format('max_retries %s is not between 0 and 1000', max_retries)
    when length(key) > 200 then format('a key has at most 200 characters, this one has %s', length(key))
    when jsonb_typeof(args) <> 'object' then format('args must be an object, not %s', jsonb_typeof(args))
    when jsonb_typeof(metadata) <> 'object' then format('metadata must be an object, not %s', jsonb_typeof(metadata))
    when octet_length(args::text) + octet_length(coalesce(metadata::text, '')) > 1048576
      then 'args and metadata are longer than 1 MiB: store what they carry elsewhere, and submit where it lies'
    when timeout_seconds not between 0.1 and 604800
      then format('timeout_seconds %s is not between 0.1 and 604800', timeout_seconds)
    when run_at not between '1970-01-01 00:00:00Z' and '9999-12-31 23:59:59.999Z'
      then 'run_at must lie between 1970 and 9999'
    when expires_at not between '1970-01-01 00:00:00Z' and '9999-12-31 23:59:59.999Z'
      then 'expires_at must lie between 1970 and 9999'
    when expires_at <= run_at then 'expires_at must be after run_at, or the step could never start'
    when cardinality(tags) > 20 or exists (
        select from unnest(tags) as tag where tag is null or length(tag) not between 1 and 100)
      then 'there may be 20 tags of 1 to 100 characters'
    when jsonb_typeof(retry) <> 'object' then format('retry must be an object, not %s', jsonb_typeof(retry))
    when retry - '{strategy,base_ms,max_ms,jitter}'::text[] <> '{}' then format(
      'retry knows strategy, base_ms, max_ms and jitter, not %s', retry - '{strategy,base_ms,max_ms,jitter}'::text[])
    when jsonb_typeof(retry -> 'strategy') <> 'string' or retry ->> 'strategy' not in ('exponential', 'linear', 'fixed')
      then 'retry.strategy must be exponential, linear or fixed'
    when 'number' <> any (array[
        jsonb_typeof(retry -> 'base_ms'), jsonb_typeof(retry -> 'max_ms'), jsonb_typeof(retry -> 'jitter')])
      then 'retry.base_ms, retry.max_ms and retry.jitter must be numbers'
    when (retry ->> 'base_ms')::numeric not between 0 and 86400000
      then 'retry.base_ms must lie between 0 and 86400000'
    when (retry ->> 'max_ms')::numeric not between 0 and 604800000 then 'retry.max_ms must lie between 0 and 604800000'
    when (retry ->> 'jitter')::numeric not between 0 and 1 then 'retry.jitter must lie between 0 and 1'
  end;
begin
  if wrong is not null then
    raise exception 'fleet_q.submit: %', wrong using errcode = 'invalid_parameter_value';
  end if;
  lane := fleet_q.lane_of(type, coalesce(priority, 0), coalesce(key, ''));
  insert into fleet_q.steps (salt, lane_id, max_retries, timeout_ms, run_at, expires_at, args, metadata, retry, tags)
  values (
    fleet_q.new_salt(), lane, coalesce(submit.max_retries, 3), round(submit.timeout_seconds * 1000)::int,
    submit.run_at, submit.expires_at, coalesce(submit.args, '{}'), submit.metadata, submit.retry, submit.tags
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
