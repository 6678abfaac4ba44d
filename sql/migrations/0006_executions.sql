-- Durable executions: what a handler remembers, the events that are sent to it, and the steps that it waits for.
-- Nothing to do beforehand; new tables, and columns that cost nothing to add.

-- An attempt that ended because its step sleeps or waits; one whose code does not fit what is remembered.
alter type fleet_q.attempt_end add value 'suspended';
alter type fleet_q.attempt_end add value 'misfit';
alter type fleet_q.later_why add value 'sleep';
alter type fleet_q.later_why add value 'wait';
alter type fleet_q.later_why add value 'attention';
alter type fleet_q.later_why add value 'pause';

-- Null: nobody knows when. Something else than the clock moves it on: an event, another step, an operator.
alter table fleet_q.later alter due_at drop not null;
-- Executions that hold no slot, told apart from steps that are due later: by an old value, for new ones are not known yet.
create index later_held on fleet_q.later (why, step_id) where why > 'spread';

-- The step that submitted this one by ctx.submit, and follows what becomes of it.
alter table fleet_q.steps add parent_id bigint;
alter table fleet_q.steps add detached boolean not null default false;
create index steps_parent on fleet_q.steps (parent_id) where parent_id is not null;

-- Nothing can be remembered of it yet: it was submitted, and that is all. A pod need not look.
alter table fleet_q.ready add fresh boolean not null default false;

create type fleet_q.checkpoint_kind as enum (
  'run', 'sleep', 'event', 'child', 'result', 'children', 'results', 'now', 'random', 'version',
  -- Something to be undone should it fail; and that it has failed, or was cancelled, and is being undone.
  'undo', 'failure'
);

-- What a handler asked to be remembered, by name and how many times that name was asked for before. Open until it has its
-- turn; what has one is never changed.
create table fleet_q.checkpoints (
  step_id bigint not null,
  name text not null check (length(name) between 1 and 200),
  number int not null check (number > 0),
  kind fleet_q.checkpoint_kind not null,
  -- The order in which results were handed to the handler. A replay hands them out in the same order, so that code which
  -- runs side by side asks in the same order again.
  turn int check (turn > 0),
  -- The last turn when it was asked for: what it may follow from.
  after_turn int not null check (after_turn >= 0),
  claim_id bigint not null,
  at timestamptz not null default fleet_q.clock(),
  -- Of a sleep its end, of a wait its limit, of a failed run the next try.
  due_at timestamptz,
  -- When the event came, or the other step ended.
  arrived_at timestamptz,
  -- Tries of a run that failed so far.
  failures smallint not null default 0 check (failures >= 0),
  -- The step that was submitted here, or is waited for; of those that are waited for at once, one that is missing.
  child_id bigint,
  result jsonb,
  error jsonb,
  primary key (step_id, name, number),
  check (turn > after_turn),
  check ((child_id is not null) = (kind in ('child', 'result', 'results')))
) with (fillfactor = 90);
-- Two results never share a turn: what is written late, by an attempt that has ended meanwhile, is written first or not at
-- all.
create unique index checkpoints_turn on fleet_q.checkpoints (step_id, turn) where turn is not null;
create index checkpoints_child on fleet_q.checkpoints (child_id) where child_id is not null and turn is null;

-- Named facts for one execution: stored first, matched later. The first that no wait has taken goes to the first wait.
create table fleet_q.events (
  id bigint generated always as identity primary key,
  step_id bigint not null,
  name text not null check (length(name) between 1 and 180),
  payload jsonb not null,
  sent_at timestamptz not null default fleet_q.clock(),
  -- Which wait of that name has taken it; null while it lies here.
  taken_by int
);
create index events_lying on fleet_q.events (step_id, name, id) where taken_by is null;
create index events_step on fleet_q.events (step_id);
create unique index events_taken on fleet_q.events (step_id, name, taken_by) where taken_by is not null;

-- Ids that clients chose for their executions.
create table fleet_q.execution_names (
  name text primary key check (length(name) between 1 and 200 and name not like 'step\_%'),
  step_id bigint not null unique
);

-- What executions remembered before somebody sent them back: for whoever asks how it went.
create table fleet_q.past_checkpoints (
  step_id bigint not null,
  put_aside_at timestamptz not null default fleet_q.clock(),
  name text not null,
  number int not null,
  kind fleet_q.checkpoint_kind not null,
  turn int,
  after_turn int not null,
  at timestamptz not null,
  due_at timestamptz,
  failures smallint not null,
  child_id bigint,
  result jsonb,
  error jsonb,
  primary key (step_id, put_aside_at, name, number)
);

-- Executions that were started with the input of another, as it was or edited.
create table fleet_q.reruns (
  step_id bigint primary key,
  of_step_id bigint not null
);
create index reruns_of on fleet_q.reruns (of_step_id);

-- Executions that must not go on: one, or all whose chosen ids fit.
create table fleet_q.execution_pauses (
  -- As it was asked for: an id, or a pattern, in which * stands for any characters.
  execution text primary key check (length(execution) between 1 and 200),
  -- Null for a pattern.
  step_id bigint unique,
  -- The pattern in the words of LIKE.
  fits text generated always as (
    case when step_id is null then
      replace(replace(replace(replace(execution, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')
    end
  ) stored,
  paused_at timestamptz not null default fleet_q.clock(),
  until timestamptz,
  reason text
);

-- The pause that holds this one for the longest; no row where none does.
create function fleet_q.pause_of(its_key bigint) returns setof fleet_q.execution_pauses
language sql stable as $$
  select pause.* from fleet_q.execution_pauses as pause
  where (pause.until is null or pause.until > fleet_q.clock())
    and (
      pause.step_id = its_key
      or exists (
        select from fleet_q.execution_names as named
        where named.step_id = its_key and named.name like pause.fits))
  order by pause.until desc nulls first
  limit 1
$$;

-- The key of an execution, by the id that its client chose or by that of its step. Null where there is none.
create function fleet_q.execution_key(execution text) returns bigint
language sql stable as $$
  select coalesce(
    (select step_id from fleet_q.execution_names where name = execution_key.execution),
    (
      select id from fleet_q.steps
      where id = fleet_q.step_key(execution_key.execution)
        and fleet_q.step_public_id(id, salt, created_at) = execution_key.execution
    ))
$$;

-- The id of an execution as it is shown: the one that its client chose, or that of its step.
create function fleet_q.execution_id_of(its_key bigint) returns text
language sql stable as $$
  select coalesce(
    (select name from fleet_q.execution_names where step_id = its_key),
    (select fleet_q.step_public_id(id, salt, created_at) from fleet_q.steps where id = its_key))
$$;

-- Gives waits of these executions the events that lie there for them, where they came in time. Whoever calls has locked
-- their letters: an event that comes while its execution goes to sleep is seen by one of the two.
create function fleet_q.match_events(step_ids bigint[]) returns setof bigint
language sql volatile as $$
  with lying as materialized (
    select id, step_id, name, payload, sent_at, row_number() over (partition by step_id, name order by id) as place
    from fleet_q.events
    where step_id = any (match_events.step_ids) and taken_by is null
  ),
  -- Locked: one that is told at this moment that none came is seen to be over, and takes none.
  wait as materialized (
    select step_id, name, number from fleet_q.checkpoints
    where step_id = any (match_events.step_ids) and kind = 'event' and turn is null and arrived_at is null
      and (due_at is null or due_at > fleet_q.clock() or due_at > (
        select min(sent_at) from lying where lying.step_id = checkpoints.step_id and lying.name = checkpoints.name))
    order by step_id, name, number
    for no key update
  ),
  open_wait as materialized (
    select wait.*, row_number() over (partition by step_id, name order by number) as place from wait
  ),
  matched as materialized (
    select lying.id, lying.payload, open_wait.* from open_wait join lying using (step_id, name, place)
  ),
  taken as (
    update fleet_q.events set taken_by = matched.number from matched where events.id = matched.id
  )
  update fleet_q.checkpoints
  set arrived_at = fleet_q.clock(), result = matched.payload
  from matched
  where checkpoints.step_id = matched.step_id and checkpoints.name = matched.name
    and checkpoints.number = matched.number
  returning checkpoints.step_id
$$;

-- The last of these steps that has not ended; null: all have. What was forgotten has ended. Steps end more or less in the
-- order in which they were submitted: whoever waits for the last of a thousand is looked at a few times, and not for each.
create function fleet_q.last_missing(children jsonb) returns bigint
language sql stable as $$
  select child_id from (
    select child_id::bigint as child_id
    from jsonb_array_elements_text(last_missing.children) with ordinality as child (child_id, place)
    order by place desc offset 0
  ) as latest
  where not exists (select from fleet_q.outcomes where outcomes.step_id = latest.child_id offset 0)
    and exists (select from fleet_q.steps where steps.id = latest.child_id offset 0)
  limit 1
$$;

-- Waits of these executions for many steps at once: each has its answer when none of them is missing, and waits for one
-- that is until then. While it is open its result is the list of their keys. Whoever calls has locked their letters.
create function fleet_q.match_results(step_ids bigint[]) returns setof bigint
language sql volatile as $$
  with looked_at as materialized (
    select step_id, name, number, fleet_q.last_missing(result) as missing
    from fleet_q.checkpoints
    where step_id = any (match_results.step_ids) and kind = 'results' and turn is null and arrived_at is null
  ),
  moved as (
    update fleet_q.checkpoints
    set child_id = coalesce(looked_at.missing, checkpoints.child_id),
      arrived_at = case when looked_at.missing is null then fleet_q.clock() end
    from looked_at
    where checkpoints.step_id = looked_at.step_id and checkpoints.name = looked_at.name
      and checkpoints.number = looked_at.number and checkpoints.child_id is distinct from looked_at.missing
    returning checkpoints.step_id, checkpoints.arrived_at
  )
  select step_id from moved where arrived_at is not null
$$;

-- Executions that wait and need not any more go back into their lanes.
create function fleet_q.end_waits(step_ids bigint[]) returns int
language plpgsql volatile as $$
declare
  woken int;
begin
  with gone as (
    delete from fleet_q.later where step_id = any (end_waits.step_ids) and why = 'wait'
    returning step_id, lane_id, attempt
  )
  insert into fleet_q.ready (lane_id, step_id, attempt)
  select lane_id, step_id, attempt from gone
  where not exists (select from fleet_q.outcomes where outcomes.step_id = gone.step_id offset 0)
  order by step_id;
  get diagnostics woken = row_count;
  return woken;
end $$;

-- Stored first, matched later. True: the execution was asleep over it, and goes on.
create function fleet_q.send_event_to(its_key bigint, name text, payload jsonb) returns boolean
language plpgsql volatile as $$
declare
  ended fleet_q.outcome_status;
begin
  -- Until the end of the transaction: see match_events.
  perform from fleet_q.steps where id = its_key for no key update;
  if not found then
    raise exception 'there is no such execution' using errcode = 'no_data_found';
  end if;
  select status into ended from fleet_q.outcomes where step_id = its_key;
  if ended is not null then
    raise exception 'the execution has ended (%): nobody would read event "%"', ended, send_event_to.name
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  if (
    select count(*) from (
      select from fleet_q.events where step_id = its_key and taken_by is null limit 1000) as lying
  ) = 1000 then
    raise exception 'a thousand events lie at the execution, and none has been read'
      using errcode = 'configuration_limit_exceeded';
  end if;
  insert into fleet_q.events (step_id, name, payload) values (its_key, send_event_to.name, send_event_to.payload);
  if exists (select from fleet_q.match_events(array[its_key])) then
    return fleet_q.end_waits(array[its_key]) > 0;
  end if;
  return false;
end $$;

-- For every language, inside the caller's own transaction: select fleet_q.send_event('order-17', 'approved', '{}').
create function fleet_q.send_event(execution text, name text, payload jsonb default 'null') returns boolean
language sql volatile as $$
  select fleet_q.send_event_to(fleet_q.execution_key(execution), name, payload)
$$;

-- These steps have ended: what waited for them has its answer. Called in the transaction that ended them, after a lock on
-- the letters of those that wait, and in a statement of its own: only a snapshot younger than the lock sees their waits.
create function fleet_q.answer_parents(child_ids bigint[]) returns int
language sql volatile as $$
  with answered as (
    update fleet_q.checkpoints set arrived_at = fleet_q.clock()
    where child_id = any (answer_parents.child_ids) and kind = 'result' and turn is null and arrived_at is null
      and exists (select from fleet_q.outcomes where outcomes.step_id = checkpoints.child_id offset 0)
    returning step_id
  ),
  has_all as materialized (
    select fleet_q.match_results(array(
      select step_id from fleet_q.checkpoints
      where child_id = any (answer_parents.child_ids) and kind = 'results' and turn is null and arrived_at is null
    )) as step_id
  )
  select fleet_q.end_waits(array(select step_id from answered union select step_id from has_all))
$$;

-- What each kind of role may do, all of it: as in 0005, and with the tables of executions.
create or replace function fleet_q.apply_grants() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  grantee record;
begin
  for grantee in
    select role::text as name, kind from fleet_q.grants
    where role in (select oid from pg_roles) order by role
  loop
    execute format('revoke all on all tables in schema fleet_q from %s', grantee.name);
    execute format('revoke all on all sequences in schema fleet_q from %s', grantee.name);
    execute format('revoke all on all functions in schema fleet_q from %s', grantee.name);
    execute format('grant usage on schema fleet_q to %s', grantee.name);
    if grantee.kind = 'app' then
      -- A pod: it reads and writes rows, and makes, changes and empties no table.
      execute format('grant select, insert, update, delete on all tables in schema fleet_q to %s', grantee.name);
      execute format('revoke insert, update, delete on fleet_q.migrations, fleet_q.grants from %s', grantee.name);
      -- Lines are added, with the number and the time that the database gives them.
      execute format('revoke insert, update, delete on fleet_q.audit from %s', grantee.name);
      execute format('grant insert (operation, target, who, role, ip, request_id, details) on fleet_q.audit to %s',
        grantee.name);
      execute format('revoke update, delete on fleet_q.tokens from %s', grantee.name);
      -- Neither a role nor a digest changes.
      execute format('grant update (used_at, revoked_at) on fleet_q.tokens to %s', grantee.name);
      execute format('grant usage, select on all sequences in schema fleet_q to %s', grantee.name);
      execute format('grant execute on function fleet_q.forget_audit(interval, int) to %s', grantee.name);
    else
      -- A person or a chart: where steps lie and how they fare, nothing of what they carry. No args, no metadata, no
      -- results, no error, no log line, no idempotency or unique key, no token. Keys of lanes are seen: they say what
      -- waits for what.
      execute format('grant select on fleet_q.lanes, fleet_q.ready, fleet_q.later, fleet_q.claims, fleet_q.pods,
        fleet_q.leader_terms, fleet_q.recovery_cycles, fleet_q.dead_letters, fleet_q.limits, fleet_q.next_floor,
        fleet_q.migrations to %s', grantee.name);
      execute format('grant select (id, type, key, paused_at, until) on fleet_q.pauses to %s', grantee.name);
      execute format('grant select (id, salt, lane_id, max_retries, timeout_ms, created_at, run_at, expires_at,
        parent_id, detached) on fleet_q.steps to %s', grantee.name);
      -- Names of checkpoints and of events, and ids that clients chose, may tell of a person.
      execute format('grant select (step_id, number, kind, turn, after_turn, claim_id, at, due_at, arrived_at, failures,
        child_id) on fleet_q.checkpoints to %s', grantee.name);
      execute format('grant select (step_id, put_aside_at, number, kind, turn, after_turn, at, due_at, failures,
        child_id) on fleet_q.past_checkpoints to %s', grantee.name);
      execute format('grant select (id, step_id, sent_at, taken_by) on fleet_q.events to %s', grantee.name);
      execute format('grant select (step_id, paused_at, until) on fleet_q.execution_pauses to %s', grantee.name);
      execute format('grant select on fleet_q.reruns to %s', grantee.name);
      execute format('grant select (step_id, status, attempt, claim_id, pod_id, started_at, settled_at)
        on fleet_q.outcomes to %s', grantee.name);
      execute format('grant select (step_id, claim_id, attempt, pod_id, ended, started_at, ended_at)
        on fleet_q.attempts to %s', grantee.name);
      execute format('grant select (id, step_id, at, status, attempt, reason) on fleet_q.redrives to %s', grantee.name);
      execute format('grant select (step_id, claim_id, percent, at) on fleet_q.progress to %s', grantee.name);
      execute format('grant select (step_id, key, type, priority, status, tray, attempt, max_retries, pod_id,
        created_at, due_at, started_at, settled_at) on fleet_q.step_status to %s', grantee.name);
      execute format('grant select on fleet_q.step_ids, fleet_q.positions to %s', grantee.name);
    end if;
  end loop;
end $$;

select fleet_q.apply_grants();
