-- The whole schema as the migrations leave it, for reading: nothing is created from this page.
-- Made by test/support/generate-schema.ts; test/sql/migrations.test.ts keeps it equal to the migrations.
-- What each part is for stands in README.md, and why it is so beside its definition in migrations/.

create type fleet_q.attempt_end as enum ('failed', 'timeout', 'pod_died', 'retried', 'snoozed', 'released', 'suspended', 'misfit');

create type fleet_q.checkpoint_kind as enum ('run', 'sleep', 'event', 'child', 'result', 'children', 'results', 'now', 'random', 'version', 'undo', 'failure');

create type fleet_q.dead_letter_reason as enum ('dead_pod', 'timeout', 'poison', 'exhausted');

create type fleet_q.later_why as enum ('delay', 'retry', 'snooze', 'spread', 'sleep', 'wait', 'attention', 'pause');

create type fleet_q.outcome_status as enum ('completed', 'failed', 'cancelled', 'skipped');

create type fleet_q.pod_status as enum ('live', 'draining', 'dead', 'gone');

create type fleet_q.token_role as enum ('viewer', 'producer', 'operator', 'admin');

create sequence fleet_q.positions as bigint;

create sequence fleet_q.step_ids as bigint;

create table fleet_q.attempts (
  step_id bigint not null,
  claim_id bigint not null,
  attempt smallint not null,
  pod_id bigint not null,
  ended fleet_q.attempt_end not null,
  started_at timestamptz not null,
  ended_at timestamptz not null default fleet_q.clock(),
  error jsonb,
  primary key (step_id, claim_id),
  check (attempt > 0)
);

create table fleet_q.audit (
  id bigint not null generated always as identity,
  at timestamptz not null default fleet_q.clock(),
  operation text not null,
  target text,
  who text not null,
  role text not null,
  ip text,
  request_id text,
  details jsonb not null,
  primary key (id),
  check (jsonb_typeof(details) = 'object')
);
create index audit_target on fleet_q.audit (target, id) where target is not null;

create table fleet_q.checkpoints (
  step_id bigint not null,
  name text not null,
  number integer not null,
  kind fleet_q.checkpoint_kind not null,
  turn integer,
  after_turn integer not null,
  claim_id bigint not null,
  at timestamptz not null default fleet_q.clock(),
  due_at timestamptz,
  arrived_at timestamptz,
  failures smallint not null default 0,
  child_id bigint,
  result jsonb,
  error jsonb,
  primary key (step_id, name, number),
  check ((child_id is not null) = (kind = any (array['child', 'result', 'results']))),
  check (after_turn >= 0),
  check (failures >= 0),
  check (length(name) >= 1 and length(name) <= 200),
  check (number > 0),
  check (turn > 0),
  check (turn > after_turn)
) with (
  fillfactor = 90
);
create index checkpoints_child on fleet_q.checkpoints (child_id) where child_id is not null and turn is null;
create unique index checkpoints_turn on fleet_q.checkpoints (step_id, turn) where turn is not null;

create table fleet_q.claims (
  id bigint not null generated always as identity,
  pod_id bigint not null,
  taken_at timestamptz not null default fleet_q.clock(),
  step_ids bigint[] not null,
  attempts smallint[] not null,
  primary key (id),
  foreign key (pod_id) references fleet_q.pods(id),
  check (cardinality(step_ids) > 0 and cardinality(step_ids) = cardinality(attempts))
) with (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0,
  vacuum_truncate = off
);
create index claims_pod on fleet_q.claims (pod_id);

create table fleet_q.dead_letters (
  step_id bigint not null,
  reason fleet_q.dead_letter_reason not null,
  at timestamptz not null default fleet_q.clock(),
  primary key (step_id),
  foreign key (step_id) references fleet_q.outcomes(step_id) on delete cascade
);
create index dead_letters_at on fleet_q.dead_letters (at);

create table fleet_q.events (
  id bigint not null generated always as identity,
  step_id bigint not null,
  name text not null,
  payload jsonb not null,
  sent_at timestamptz not null default fleet_q.clock(),
  taken_by integer,
  primary key (id),
  check (length(name) >= 1 and length(name) <= 180)
);
create index events_lying on fleet_q.events (step_id, name, id) where taken_by is null;
create index events_step on fleet_q.events (step_id);
create unique index events_taken on fleet_q.events (step_id, name, taken_by) where taken_by is not null;

create table fleet_q.execution_names (
  name text not null,
  step_id bigint not null,
  primary key (name),
  unique (step_id),
  check (length(name) >= 1 and length(name) <= 200 and name !~~ 'step\_%')
);

create table fleet_q.execution_pauses (
  execution text not null,
  step_id bigint,
  fits text default 
case
    when step_id is null then replace(replace(replace(replace(execution, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')
    else null
end,
  paused_at timestamptz not null default fleet_q.clock(),
  until timestamptz,
  reason text,
  primary key (execution),
  unique (step_id),
  check (length(execution) >= 1 and length(execution) <= 200)
);

create table fleet_q.grants (
  role regrole not null,
  kind text not null,
  primary key (role),
  check (kind = any (array['app', 'reader']))
);

create table fleet_q.idempotency_keys (
  key text not null,
  body_hash bytea not null,
  step_ids bigint[] not null,
  created_at timestamptz not null default fleet_q.clock(),
  primary key (key),
  check (length(key) >= 1 and length(key) <= 255)
);
create index idempotency_keys_created on fleet_q.idempotency_keys (created_at);

create table fleet_q.lanes (
  id integer not null generated always as identity,
  type text not null,
  priority smallint not null,
  key text not null default '',
  floor bigint not null default 0,
  primary key (id),
  unique (type, priority, key),
  check (floor >= 0),
  check (length(key) <= 200),
  check (length(type) >= 1 and length(type) <= 200),
  check (priority >= '-1000' and priority <= 1000)
) with (
  fillfactor = 70
);
create index lanes_circle on fleet_q.lanes (priority desc, id);

create table fleet_q.later (
  step_id bigint not null,
  lane_id integer not null,
  due_at timestamptz,
  attempt smallint not null,
  why fleet_q.later_why not null,
  primary key (step_id),
  check (attempt > 0)
) with (
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0,
  vacuum_truncate = off
);
create index later_due on fleet_q.later (due_at);
create index later_held on fleet_q.later (why, step_id) where why > 'spread';

create table fleet_q.leader_terms (
  term bigint not null generated always as identity,
  pod_id bigint not null,
  began_at timestamptz not null default fleet_q.clock(),
  began_why text not null,
  proved_at timestamptz not null default fleet_q.clock(),
  ended_at timestamptz,
  ended_why text,
  primary key (term),
  foreign key (pod_id) references fleet_q.pods(id),
  check ((ended_at is null) = (ended_why is null))
) with (
  fillfactor = 50
);
create index leader_terms_pod on fleet_q.leader_terms (pod_id);
create unique index leader_terms_open on fleet_q.leader_terms ((true)) where ended_at is null;

create table fleet_q.limits (
  type text not null,
  max_running integer,
  max_running_per_key integer,
  primary key (type),
  check (max_running >= 0),
  check (max_running is not null or max_running_per_key is not null),
  check (max_running_per_key >= 0)
);

create table fleet_q.logs (
  step_id bigint not null,
  claim_id bigint not null,
  line integer not null,
  attempt smallint not null,
  at timestamptz not null default fleet_q.clock(),
  level text not null,
  message text not null,
  data jsonb,
  primary key (step_id, claim_id, line),
  check (length(message) <= 16384),
  check (level = any (array['debug', 'info', 'warn', 'error']))
);

create table fleet_q.migrations (
  version integer not null,
  name text not null,
  applied_at timestamptz not null default now(),
  primary key (version)
);

create table fleet_q.next_floor (
  only_one boolean not null default true,
  position bigint not null,
  before xid8 not null,
  primary key (only_one),
  check (only_one)
) with (
  fillfactor = 50
);

create table fleet_q.outcomes (
  step_id bigint not null,
  status fleet_q.outcome_status not null,
  attempt smallint not null,
  claim_id bigint,
  pod_id bigint,
  started_at timestamptz,
  settled_at timestamptz not null default fleet_q.clock(),
  result jsonb,
  error jsonb,
  primary key (step_id),
  check ((claim_id is null) = (pod_id is null)),
  check (attempt >= 0),
  check (status <> 'completed' or claim_id is not null)
);
create index outcomes_not_completed on fleet_q.outcomes (status, step_id) where status <> 'completed';

create table fleet_q.past_checkpoints (
  step_id bigint not null,
  put_aside_at timestamptz not null default fleet_q.clock(),
  name text not null,
  number integer not null,
  kind fleet_q.checkpoint_kind not null,
  turn integer,
  after_turn integer not null,
  at timestamptz not null,
  due_at timestamptz,
  failures smallint not null,
  child_id bigint,
  result jsonb,
  error jsonb,
  primary key (step_id, put_aside_at, name, number)
);

create table fleet_q.pauses (
  id bigint not null generated always as identity,
  type text,
  key text,
  paused_at timestamptz not null default fleet_q.clock(),
  until timestamptz,
  reason text,
  primary key (id),
  check (type is not null or key is not null)
);
create unique index pauses_what on fleet_q.pauses (coalesce(type, ''), coalesce(key, ''));

create table fleet_q.pods (
  id bigint not null generated always as identity,
  public_id text not null,
  name text not null,
  status fleet_q.pod_status not null default 'live',
  version text not null,
  types text[] not null,
  capacity integer not null,
  dead_after_ms integer not null,
  leader_eligible boolean not null,
  born_at timestamptz not null default fleet_q.clock(),
  beat_at timestamptz not null default fleet_q.clock(),
  resumed_at timestamptz,
  running integer not null default 0,
  stuck integer not null default 0,
  refused bigint not null default 0,
  drain_wanted boolean not null default false,
  benched_until timestamptz,
  ended_at timestamptz,
  ended_why text,
  primary key (id),
  unique (public_id),
  check ((status = any (array['dead', 'gone'])) = (ended_at is not null)),
  check (capacity > 0),
  check (dead_after_ms > 0)
) with (
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 200
);
create index pods_living on fleet_q.pods (id) where status = any (array['live', 'draining']);

create table fleet_q.progress (
  step_id bigint not null,
  claim_id bigint not null,
  percent real not null,
  message text,
  at timestamptz not null default fleet_q.clock(),
  primary key (step_id),
  check (length(message) <= 1000),
  check (percent >= 0::float8 and percent <= 100::float8)
) with (
  fillfactor = 70
);

create table fleet_q.ready (
  lane_id integer not null,
  position bigint not null default nextval('fleet_q.positions'::regclass),
  step_id bigint not null,
  attempt smallint not null,
  fresh boolean not null default false,
  check (attempt > 0)
) with (
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 2000,
  autovacuum_vacuum_insert_scale_factor = 0.5,
  autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0.2,
  autovacuum_analyze_threshold = 5000,
  vacuum_truncate = off
);
create index ready_lane_position on fleet_q.ready (lane_id, "position");
alter table fleet_q.ready replica identity full;

create table fleet_q.recovery_cycles (
  id bigint not null generated always as identity,
  pod_id bigint not null,
  term bigint,
  forced boolean not null default false,
  started_at timestamptz not null default fleet_q.clock(),
  finished_at timestamptz,
  duration_ms integer,
  dead_pods text[] not null default '{}',
  orphaned integer not null default 0,
  requeued integer not null default 0,
  terminal integer not null default 0,
  requeued_steps text[] not null default '{}',
  terminal_steps text[] not null default '{}',
  error text,
  primary key (id),
  foreign key (pod_id) references fleet_q.pods(id)
);
create index recovery_cycles_pod on fleet_q.recovery_cycles (pod_id);
create unique index recovery_cycles_running on fleet_q.recovery_cycles ((true)) where finished_at is null;

create table fleet_q.recovery_requests (
  id bigint not null generated always as identity,
  asked_by text not null,
  options jsonb not null,
  asked_at timestamptz not null default fleet_q.clock(),
  answered_at timestamptz,
  answer jsonb,
  primary key (id),
  check ((answered_at is null) = (answer is null))
);

create table fleet_q.redrives (
  id bigint not null generated always as identity,
  step_id bigint not null,
  at timestamptz not null default fleet_q.clock(),
  status fleet_q.outcome_status not null,
  attempt smallint not null,
  reason fleet_q.dead_letter_reason,
  error jsonb,
  primary key (id)
);
create index redrives_step on fleet_q.redrives (step_id);

create table fleet_q.reruns (
  step_id bigint not null,
  of_step_id bigint not null,
  primary key (step_id)
);
create index reruns_of on fleet_q.reruns (of_step_id);

create table fleet_q.steps (
  id bigint not null default nextval('fleet_q.step_ids'::regclass),
  salt bigint not null,
  lane_id integer not null,
  max_retries smallint not null,
  timeout_ms integer,
  created_at timestamptz not null default fleet_q.clock(),
  run_at timestamptz,
  expires_at timestamptz,
  args jsonb not null,
  metadata jsonb,
  retry jsonb,
  tags text[],
  parent_id bigint,
  detached boolean not null default false,
  primary key (id),
  check (expires_at >= '1970-01-01 00:00:00+00' and expires_at <= '9999-12-31 23:59:59.999+00'),
  check (jsonb_typeof(args) = 'object'),
  check (jsonb_typeof(metadata) = 'object'),
  check (jsonb_typeof(retry) = 'object'),
  check (max_retries >= 0 and max_retries <= 1000),
  check (run_at >= '1970-01-01 00:00:00+00' and run_at <= '9999-12-31 23:59:59.999+00'),
  check (salt >= 0 and salt <= '1152921504606846975'),
  check (timeout_ms > 0)
);
create index steps_parent on fleet_q.steps (parent_id) where parent_id is not null;

create table fleet_q.tokens (
  id integer not null generated always as identity,
  name text not null,
  role fleet_q.token_role not null,
  digest bytea not null,
  created_at timestamptz not null default fleet_q.clock(),
  created_by text not null,
  expires_at timestamptz,
  used_at timestamptz,
  revoked_at timestamptz,
  primary key (id),
  unique (digest),
  check (expires_at > created_at),
  check (length(digest) = 32),
  check (length(name) >= 1 and length(name) <= 100)
);

create table fleet_q.unique_keys (
  key text not null,
  step_id bigint not null,
  primary key (key),
  check (length(key) >= 1 and length(key) <= 200)
);
create index unique_keys_step on fleet_q.unique_keys (step_id);

create view fleet_q.step_status (
  step_id text,
  key bigint,
  type text,
  priority smallint,
  lane_key text,
  status text,
  tray text,
  attempt smallint,
  max_retries smallint,
  pod_id text,
  created_at timestamptz,
  due_at timestamptz,
  started_at timestamptz,
  settled_at timestamptz,
  error text
);

create function fleet_q.answer_parents(child_ids bigint[]) returns integer language sql volatile;

create function fleet_q.apply_grants() returns void language plpgsql volatile;

create function fleet_q.base36(value bigint, width integer) returns text language plpgsql immutable strict;

create function fleet_q.clock() returns timestamptz language sql stable;

create function fleet_q.end_waits(step_ids bigint[]) returns integer language plpgsql volatile;

create function fleet_q.execution_id_of(its_key bigint) returns text language sql stable;

create function fleet_q.execution_key(execution text) returns bigint language sql stable;

create function fleet_q.forget_audit(older_than interval, at_most integer) returns integer language plpgsql volatile;

create function fleet_q.grant_app(role regrole) returns void language sql volatile;

create function fleet_q.grant_reader(role regrole) returns void language sql volatile;

create function fleet_q.keep_revoked() returns trigger language plpgsql volatile;

create function fleet_q.lane_of(type text, priority integer, key text) returns integer language plpgsql volatile;

create function fleet_q.last_missing(children jsonb) returns bigint language sql stable;

create function fleet_q.match_events(step_ids bigint[]) returns setof bigint language sql volatile;

create function fleet_q.match_results(step_ids bigint[]) returns setof bigint language sql volatile;

create function fleet_q.new_salt() returns bigint language sql volatile;

create function fleet_q.pause_of(its_key bigint) returns setof fleet_q.execution_pauses language sql stable;

create function fleet_q.send_event(execution text, name text, payload jsonb default 'null') returns boolean language sql volatile;

create function fleet_q.send_event_to(its_key bigint, name text, payload jsonb) returns boolean language plpgsql volatile;

create function fleet_q.step_key(step_id text) returns bigint language sql immutable strict;

create function fleet_q.step_public_id(id bigint, salt bigint, created_at timestamptz) returns text language sql stable;

create function fleet_q.submit(
  type text,
  args jsonb default '{}',
  metadata jsonb default null,
  priority integer default 0,
  max_retries integer default 3,
  run_at timestamptz default null,
  key text default '',
  timeout_seconds float8 default null8,
  retry jsonb default null,
  expires_at timestamptz default null,
  tags text[] default null
) returns text language plpgsql volatile;

create function fleet_q.wake() returns void language sql volatile;
