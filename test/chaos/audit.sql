-- What happened, written down by the database itself, in an order that no pod can forge. Only in a run of chaos.
create schema chaos;

create table chaos.audit (
  seq bigint generated always as identity primary key,
  tx xid8 not null default pg_current_xact_id(),
  -- When its transaction began, and when this was written.
  began timestamptz not null default now(),
  at timestamptz not null default clock_timestamp(),
  what text not null,
  step_id bigint,
  claim_id bigint,
  pod_id bigint,
  attempt int,
  detail text,
  step_ids bigint[],
  attempts smallint[]
);

create function chaos.claim_taken() returns trigger language plpgsql as $$begin
  insert into chaos.audit (what, claim_id, pod_id, step_ids, attempts)
  select 'taken', id, pod_id, step_ids, attempts from new_rows;
  return null;
end$$;
create trigger audit_taken after insert on fleet_q.claims
  referencing new table as new_rows for each statement execute function chaos.claim_taken();

create function chaos.claim_gone() returns trigger language plpgsql as $$begin
  -- By whom: a pod names its connections.
  insert into chaos.audit (what, claim_id, pod_id, detail)
  select 'gone', id, pod_id, current_setting('application_name') from old_rows;
  return null;
end$$;
create trigger audit_gone after delete on fleet_q.claims
  referencing old table as old_rows for each statement execute function chaos.claim_gone();

create function chaos.tried() returns trigger language plpgsql as $$begin
  insert into chaos.audit (what, step_id, claim_id, pod_id, attempt, detail)
  select 'tried', step_id, claim_id, pod_id, attempt, ended from new_rows;
  return null;
end$$;
create trigger audit_tried after insert on fleet_q.attempts
  referencing new table as new_rows for each statement execute function chaos.tried();

create function chaos.settled() returns trigger language plpgsql as $$begin
  insert into chaos.audit (what, step_id, claim_id, pod_id, attempt, detail)
  select 'settled', step_id, claim_id, pod_id, attempt, status from new_rows;
  return null;
end$$;
create trigger audit_settled after insert on fleet_q.outcomes
  referencing new table as new_rows for each statement execute function chaos.settled();

-- An outcome is put aside by a redrive and by nothing else; changed by nothing at all.
create function chaos.unsettled() returns trigger language plpgsql as $$begin
  insert into chaos.audit (what, step_id, claim_id, detail)
  select lower(tg_op) || ' of an outcome', step_id, claim_id, status from old_rows;
  return null;
end$$;
create trigger audit_unsettled after delete on fleet_q.outcomes
  referencing old table as old_rows for each statement execute function chaos.unsettled();
create trigger audit_changed after update on fleet_q.outcomes
  referencing old table as old_rows for each statement execute function chaos.unsettled();

create function chaos.redriven() returns trigger language plpgsql as $$begin
  insert into chaos.audit (what, step_id, detail) select 'redriven', step_id, status from new_rows;
  return null;
end$$;
create trigger audit_redriven after insert on fleet_q.redrives
  referencing new table as new_rows for each statement execute function chaos.redriven();

-- What an execution remembers: when it was accepted; and what changed or went of it after that.
create function chaos.remembered() returns trigger language plpgsql as $$begin
  insert into chaos.audit (what, step_id, claim_id, attempt, detail)
  select 'remembered', step_id, claim_id, turn, number || ' ' || name from new_rows where turn is not null;
  return null;
end$$;
create trigger audit_remembered after insert on fleet_q.checkpoints
  referencing new table as new_rows for each statement execute function chaos.remembered();

create function chaos.remembered_again() returns trigger language plpgsql as $$begin
  insert into chaos.audit (what, step_id, claim_id, attempt, detail)
  select case when was.turn is null then 'remembered' else 'checkpoint changed' end, made.step_id, made.claim_id,
    coalesce(made.turn, was.turn), made.number || ' ' || made.name
  from new_rows as made join old_rows as was using (step_id, name, number)
  where case when was.turn is null then made.turn is not null
    else (was.turn, was.kind, was.child_id, was.result, was.error)
      is distinct from (made.turn, made.kind, made.child_id, made.result, made.error) end;
  return null;
end$$;
create trigger audit_remembered_again after update on fleet_q.checkpoints
  referencing new table as new_rows old table as old_rows for each statement execute function chaos.remembered_again();

-- A failure may be forgotten, for another try. Nothing else, but by a redrive and by retention.
create function chaos.forgotten() returns trigger language plpgsql as $$begin
  insert into chaos.audit (what, step_id, claim_id, attempt, detail)
  select case when error is null then 'checkpoint gone' else 'failure forgotten' end, step_id, claim_id, turn,
    number || ' ' || name
  from old_rows where turn is not null;
  return null;
end$$;
create trigger audit_forgotten after delete on fleet_q.checkpoints
  referencing old table as old_rows for each statement execute function chaos.forgotten();

create function chaos.pod_changed() returns trigger language plpgsql as $$begin
  insert into chaos.audit (what, pod_id, detail) values ('pod', new.id, concat_ws(' to ', old.status, new.status));
  return null;
end$$;
create trigger audit_pod after update on fleet_q.pods
  for each row when (old.status <> new.status) execute function chaos.pod_changed();
create trigger audit_pod_born after insert on fleet_q.pods
  for each row execute function chaos.pod_changed();

create function chaos.term_changed() returns trigger language plpgsql as $$begin
  insert into chaos.audit (what, pod_id, detail) values (
    case when tg_op = 'INSERT' then 'term began' else 'term ended' end, new.pod_id, new.term::text);
  return null;
end$$;
create trigger audit_term_began after insert on fleet_q.leader_terms
  for each row execute function chaos.term_changed();
create trigger audit_term_ended after update on fleet_q.leader_terms
  for each row when (old.ended_at is null and new.ended_at is not null) execute function chaos.term_changed();

-- Written by handlers, in the transactions that commit with their settles.
create table chaos.ledger (step_id text not null, attempt int not null);
-- Written by bodies of executions, in the transactions that commit with their checkpoints.
create table chaos.written (step_id text not null, place text not null, value text not null);

-- What the client was told, put here when the run is over.
create table chaos.history (
  op text not null,
  f text not null,
  step_id text,
  at timestamptz not null
);
-- What the sink was asked to do.
create table chaos.effects (
  step_id text not null,
  attempt int not null,
  pid int not null,
  -- Of an execution: at which place, what the body brought, and what the handler had been given before.
  place text,
  value text,
  seen jsonb
);
-- Pods that the nemesis has killed.
create table chaos.kills (pod_id text not null, at timestamptz not null);
-- Times in which recovery cannot be expected to be quick.
create table chaos.outages (began_at timestamptz not null, ended_at timestamptz not null);
