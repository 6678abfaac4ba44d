-- Who may come in, what they changed, and what roles of the database may do.
-- Nothing to do beforehand; new tables and functions only.

create type fleet_q.token_role as enum ('viewer', 'producer', 'operator', 'admin');

-- A key to the door, by its digest. SHA-256 is enough: a token has 256 bits of chance, and no slow hash adds to that.
-- Never deleted: what was done with it refers to it, and a fleet that had tokens once does not open again by itself.
create table fleet_q.tokens (
  id int generated always as identity primary key,
  name text not null check (length(name) between 1 and 100),
  role fleet_q.token_role not null,
  digest bytea not null unique check (length(digest) = 32),
  created_at timestamptz not null default fleet_q.clock(),
  created_by text not null,
  expires_at timestamptz,
  -- To the minute: a token is used thousands of times a second.
  used_at timestamptz,
  revoked_at timestamptz,
  constraint tokens_good_for_a_while check (expires_at > created_at)
);

-- What was revoked stays so, whoever writes.
create function fleet_q.keep_revoked() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$begin
  raise exception 'fleet_q.tokens: token % is revoked, and stays so', old.id using errcode = 'check_violation';
end$$;
create trigger keep_revoked before update on fleet_q.tokens
  for each row when (old.revoked_at is not null and new.revoked_at is distinct from old.revoked_at)
  execute function fleet_q.keep_revoked();

-- What people changed, written in the transaction that changed it. Append only: apply_grants leaves pods no right to
-- change a line, or to delete one but by forget_audit.
create table fleet_q.audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default fleet_q.clock(),
  operation text not null,
  -- A step, a pod, a type; null where it was many.
  target text,
  who text not null,
  role text not null,
  ip text,
  request_id text,
  details jsonb not null check (jsonb_typeof(details) = 'object')
);
create index audit_target on fleet_q.audit (target, id) where target is not null;

-- The only way in which a line of the audit goes: by age, with the rights of its owner, and never before a month.
create function fleet_q.forget_audit(older_than interval, at_most int) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  forgotten int;
  before timestamptz := fleet_q.clock() - older_than;
begin
  -- Times are compared, not intervals: minus a thousand years and as many days more pass for long, and lie in the future.
  if before is null or before > fleet_q.clock() - interval '30 days' then
    raise exception 'fleet_q.forget_audit: the audit is kept for 30 days at least'
      using errcode = 'invalid_parameter_value';
  end if;
  delete from fleet_q.audit where id in (
    select id from fleet_q.audit where at < before order by id limit least(at_most, 10000));
  get diagnostics forgotten = row_count;
  return forgotten;
end $$;

-- Roles that were given their rights by fleet_q.grant_app and fleet_q.grant_reader. Kept, because a later migration
-- brings tables, and rights to those have to come with them.
create table fleet_q.grants (
  -- Not its name: a role that is dropped and made again is another one.
  role regrole primary key,
  kind text not null check (kind in ('app', 'reader'))
);

-- What each kind of role may do, all of it, as often as you like. Rights that it no longer has are taken away.
-- search_path is pinned, here and below: a function of somebody's own that fits its arguments better than the built-in one
-- of that name would run with the rights of the owner.
create function fleet_q.apply_grants() returns void
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
      execute format('grant select (id, salt, lane_id, max_retries, timeout_ms, created_at, run_at, expires_at)
        on fleet_q.steps to %s', grantee.name);
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

-- For the owner of the schema: select fleet_q.grant_app('shop_pods').
create function fleet_q.grant_app(role regrole) returns void
language sql set search_path = pg_catalog, pg_temp as $$
  insert into fleet_q.grants (role, kind) values (grant_app.role, 'app')
  on conflict on constraint grants_pkey do update set kind = excluded.kind;
  select fleet_q.apply_grants();
$$;

create function fleet_q.grant_reader(role regrole) returns void
language sql set search_path = pg_catalog, pg_temp as $$
  insert into fleet_q.grants (role, kind) values (grant_reader.role, 'reader')
  on conflict on constraint grants_pkey do update set kind = excluded.kind;
  select fleet_q.apply_grants();
$$;

-- Functions are everybody's unless that is taken away; what they do is bounded by the rights of who calls them, but for
-- the one that acts with the rights of its owner.
revoke execute on function fleet_q.forget_audit(interval, int) from public;
