-- The queue: a step is a letter, written once; what moves is a narrow row in a tray.
-- Nothing to do beforehand; new tables only.

create type fleet_q.outcome_status as enum ('completed', 'failed', 'cancelled', 'skipped');
create type fleet_q.attempt_end as enum ('failed', 'timeout', 'pod_died', 'retried', 'snoozed', 'released');
create type fleet_q.dead_letter_reason as enum ('dead_pod', 'timeout', 'poison', 'exhausted');

create sequence fleet_q.step_ids as bigint;
-- Positions grow with time; retries, due and recovered steps get a new one.
create sequence fleet_q.positions as bigint;

-- All steps of one type, priority and key: the unit of order, fairness and pausing.
create table fleet_q.lanes (
  id int generated always as identity primary key,
  type text not null check (length(type) between 1 and 200),
  priority smallint not null check (priority between -1000 and 1000),
  key text not null default '' check (length(key) <= 200),
  -- Nothing lies at or below it any more, and nothing will: claims start behind it. Raised by the leader.
  floor bigint not null default 0 check (floor >= 0),
  unique (type, priority, key)
) with (fillfactor = 70);
-- The order in which a claim visits them.
create index lanes_circle on fleet_q.lanes (priority desc, id);

-- Where floors may be raised to next: every position up to this one was drawn by a transaction with a smaller id than
-- "before", for whoever writes to ready has written something else first. When all of those have ended, what is there
-- can be seen, and nothing more can come.
create table fleet_q.next_floor (
  only_one boolean primary key default true check (only_one),
  position bigint not null,
  before xid8 not null
) with (fillfactor = 50);
insert into fleet_q.next_floor (position, before) values (0, '0');

-- What was submitted. Never updated.
create table fleet_q.steps (
  id bigint primary key default nextval('fleet_q.step_ids'),
  -- 60 bits: an id whose chance is larger would be taken for no id.
  salt bigint not null check (salt between 0 and 1152921504606846975),
  lane_id int not null,
  max_retries smallint not null check (max_retries between 0 and 1000),
  timeout_ms int check (timeout_ms > 0),
  created_at timestamptz not null default fleet_q.clock(),
  run_at timestamptz,
  expires_at timestamptz,
  args jsonb not null check (jsonb_typeof(args) = 'object'),
  metadata jsonb check (jsonb_typeof(metadata) = 'object'),
  retry jsonb check (jsonb_typeof(retry) = 'object'),
  tags text[],
  -- A year that JavaScript and four digits can spell.
  check (run_at between '1970-01-01 00:00:00Z' and '9999-12-31 23:59:59.999Z'),
  check (expires_at between '1970-01-01 00:00:00Z' and '9999-12-31 23:59:59.999Z')
);

-- The tray a claim takes from: narrow, inserted and deleted, never updated. One index, and no key by step: a
-- second index would be paid for on every step and serve only operators. No foreign keys on the trays either:
-- each costs a look-up per row and a second lock, and no statement of ours can write a tray row without its step.
-- No truncation, here and in the other trays: to give a few empty pages back, vacuum would lock everybody out, and a
-- tray that runs empty fills again.
create table fleet_q.ready (
  lane_id int not null,
  position bigint not null default nextval('fleet_q.positions'),
  step_id bigint not null,
  attempt smallint not null check (attempt > 0)
) with (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
  autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0.2, autovacuum_analyze_threshold = 5000, vacuum_truncate = off
);
create index ready_lane_position on fleet_q.ready (lane_id, position);
-- It has no key, so a publication of all tables, a copy to a new server say, would refuse each claim's DELETE. Costs
-- nothing below wal_level = logical, and a narrow row in the log there.
alter table fleet_q.ready replica identity full;

create type fleet_q.later_why as enum ('delay', 'retry', 'snooze', 'spread');

-- Not due yet.
create table fleet_q.later (
  step_id bigint primary key,
  lane_id int not null,
  due_at timestamptz not null,
  attempt smallint not null check (attempt > 0),
  why fleet_q.later_why not null
) with (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
  vacuum_truncate = off
);
create index later_due on fleet_q.later (due_at);

-- A batch of steps that one pod has taken, in one row; also the fence: no claim row, no say.
create table fleet_q.claims (
  id bigint generated always as identity primary key,
  pod_id bigint not null references fleet_q.pods (id),
  taken_at timestamptz not null default fleet_q.clock(),
  step_ids bigint[] not null,
  attempts smallint[] not null,
  check (cardinality(step_ids) > 0 and cardinality(step_ids) = cardinality(attempts))
) with (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
  vacuum_truncate = off
);
create index claims_pod on fleet_q.claims (pod_id);

-- How an attempt ended that was not the last. Keyed by claim: a claim holds a step once.
create table fleet_q.attempts (
  step_id bigint not null,
  claim_id bigint not null,
  attempt smallint not null check (attempt > 0),
  pod_id bigint not null,
  ended fleet_q.attempt_end not null,
  started_at timestamptz not null,
  ended_at timestamptz not null default fleet_q.clock(),
  error jsonb,
  primary key (step_id, claim_id)
);

-- The one terminal result of a step. Insert only; the primary key decides every race.
create table fleet_q.outcomes (
  step_id bigint primary key,
  status fleet_q.outcome_status not null,
  attempt smallint not null check (attempt >= 0),
  claim_id bigint,
  pod_id bigint,
  started_at timestamptz,
  settled_at timestamptz not null default fleet_q.clock(),
  result jsonb,
  error jsonb,
  -- What was completed has been claimed; what has been claimed says by whom.
  check (status <> 'completed' or claim_id is not null),
  check ((claim_id is null) = (pod_id is null))
);
-- For lists and counts of what went wrong; completed steps, the many, do not pay for it.
create index outcomes_not_completed on fleet_q.outcomes (status, step_id) where status <> 'completed';

-- Steps that retries or recovery gave up, and why.
create table fleet_q.dead_letters (
  step_id bigint primary key references fleet_q.outcomes (step_id) on delete cascade,
  reason fleet_q.dead_letter_reason not null,
  at timestamptz not null default fleet_q.clock()
);
create index dead_letters_at on fleet_q.dead_letters (at);

-- An operator's wish to try a settled step again: the outcome that it put aside.
create table fleet_q.redrives (
  id bigint generated always as identity primary key,
  step_id bigint not null,
  at timestamptz not null default fleet_q.clock(),
  status fleet_q.outcome_status not null,
  attempt smallint not null,
  reason fleet_q.dead_letter_reason,
  error jsonb
);
create index redrives_step on fleet_q.redrives (step_id);

-- The same key and body give the first answer again.
create table fleet_q.idempotency_keys (
  key text primary key check (length(key) between 1 and 255),
  body_hash bytea not null,
  step_ids bigint[] not null,
  created_at timestamptz not null default fleet_q.clock()
);
create index idempotency_keys_created on fleet_q.idempotency_keys (created_at);

-- One live step a key; a key whose step has an outcome is free.
create table fleet_q.unique_keys (
  key text primary key check (length(key) between 1 and 200),
  step_id bigint not null
);
create index unique_keys_step on fleet_q.unique_keys (step_id);

-- What must not be claimed: a type, a key, or a key of a type.
create table fleet_q.pauses (
  id bigint generated always as identity primary key,
  type text,
  key text,
  paused_at timestamptz not null default fleet_q.clock(),
  until timestamptz,
  reason text,
  check (type is not null or key is not null)
);
create unique index pauses_what on fleet_q.pauses (coalesce(type, ''), coalesce(key, ''));

-- At most so many steps of a type at once in the whole fleet, and of each of its keys. A claim locks the row of a
-- limited type while it counts and takes, so the limit is exact; types without a row pay nothing.
create table fleet_q.limits (
  type text primary key,
  max_running int check (max_running >= 0),
  max_running_per_key int check (max_running_per_key >= 0),
  check (max_running is not null or max_running_per_key is not null)
);

-- What handlers said, per attempt; bounded by the pod that writes it.
create table fleet_q.logs (
  step_id bigint not null,
  claim_id bigint not null,
  line int not null,
  attempt smallint not null,
  at timestamptz not null default fleet_q.clock(),
  level text not null check (level in ('debug', 'info', 'warn', 'error')),
  message text not null check (length(message) <= 16384),
  data jsonb,
  primary key (step_id, claim_id, line)
);

create table fleet_q.progress (
  step_id bigint primary key,
  claim_id bigint not null,
  percent real not null check (percent between 0 and 100),
  message text check (length(message) <= 1000),
  at timestamptz not null default fleet_q.clock()
) with (fillfactor = 70);
