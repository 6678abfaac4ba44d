-- Durable executions: what a handler remembers, the events that are sent to it, and the steps that it waits for.
-- Nothing to do beforehand; new tables, and columns that cost nothing to add.

-- An attempt that ended because its step sleeps or waits; one whose code does not fit what is remembered.
alter type fleet_q.attempt_end add value 'suspended';
alter type fleet_q.attempt_end add value 'misfit';
alter type fleet_q.later_why add value 'sleep';
alter type fleet_q.later_why add value 'wait';
alter type fleet_q.later_why add value 'attention';

-- Null: nobody knows when. Something else than the clock moves it on: an event, another step, an operator.
alter table fleet_q.later alter due_at drop not null;

-- The step that submitted this one by ctx.submit, and follows what becomes of it.
alter table fleet_q.steps add parent_id bigint;
alter table fleet_q.steps add detached boolean not null default false;
create index steps_parent on fleet_q.steps (parent_id) where parent_id is not null;

-- Nothing can be remembered of it yet: it was submitted, and that is all. A pod need not look.
alter table fleet_q.ready add fresh boolean not null default false;

create type fleet_q.checkpoint_kind as enum (
  'run', 'sleep', 'event', 'child', 'result', 'now', 'random', 'version',
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
  child_id bigint,
  result jsonb,
  error jsonb,
  primary key (step_id, name, number),
  check (turn > after_turn),
  check ((child_id is not null) = (kind in ('child', 'result')))
) with (fillfactor = 90);
create index checkpoints_child on fleet_q.checkpoints (child_id) where child_id is not null and turn is null;

-- Named facts for one execution: stored first, matched later. The first that no wait has taken goes to the first wait.
create table fleet_q.events (
  id bigint generated always as identity primary key,
  step_id bigint not null,
  name text not null check (length(name) between 1 and 200),
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
  )
  select fleet_q.end_waits(array(select distinct step_id from answered))
$$;
