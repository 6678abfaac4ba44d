-- Who is alive, who leads, and what recovery did.
-- Nothing to do beforehand; new tables only.

create type fleet_q.pod_status as enum ('live', 'draining', 'dead', 'gone');

-- One row a boot. A row that is dead or gone never lives again: heartbeats are guarded by status.
-- fillfactor 50 and no index on what a heartbeat changes: every beat is a HOT update on the same page.
create table fleet_q.pods (
  id bigint generated always as identity primary key,
  public_id text not null unique,
  name text not null,
  status fleet_q.pod_status not null default 'live',
  version text not null,
  types text[] not null,
  capacity int not null check (capacity > 0),
  -- A pod's promise is its own: how long it may be silent is in its row, not in the leader's settings.
  dead_after_ms int not null check (dead_after_ms > 0),
  leader_eligible boolean not null,
  born_at timestamptz not null default fleet_q.clock(),
  beat_at timestamptz not null default fleet_q.clock(),
  -- When it was last heard of again after a gap of more than two heartbeats; a leader that was away itself
  -- declares nobody dead for one threshold after its return.
  resumed_at timestamptz,
  running int not null default 0,
  stuck int not null default 0,
  -- Late answers of this pod that were refused, because its claim was gone.
  refused bigint not null default 0,
  drain_wanted boolean not null default false,
  -- A pod whose leadership hung or threw does not lead again before this.
  benched_until timestamptz,
  ended_at timestamptz,
  ended_why text,
  check ((status in ('dead', 'gone')) = (ended_at is not null))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- For every beat's look at the others. Without it a beat reads all pods that ever were: 12.6 ms with 50,000 that ended.
-- Nothing in it changes with a beat, so beats stay HOT.
create index pods_living on fleet_q.pods (id) where status in ('live', 'draining');

-- One row an accession; the term grows, and every chore of a leader carries it.
create table fleet_q.leader_terms (
  term bigint generated always as identity primary key,
  pod_id bigint not null references fleet_q.pods (id),
  began_at timestamptz not null default fleet_q.clock(),
  began_why text not null,
  -- The last round of chores that ended well.
  proved_at timestamptz not null default fleet_q.clock(),
  ended_at timestamptz,
  ended_why text,
  check ((ended_at is null) = (ended_why is null))
) with (fillfactor = 50);

-- At most one open term.
create unique index leader_terms_open on fleet_q.leader_terms ((true)) where ended_at is null;
create index leader_terms_pod on fleet_q.leader_terms (pod_id);

create table fleet_q.recovery_cycles (
  id bigint generated always as identity primary key,
  pod_id bigint not null references fleet_q.pods (id),
  term bigint,
  forced boolean not null default false,
  started_at timestamptz not null default fleet_q.clock(),
  finished_at timestamptz,
  duration_ms int,
  dead_pods text[] not null default '{}',
  orphaned int not null default 0,
  requeued int not null default 0,
  terminal int not null default 0,
  -- Samples for people, bounded by the writer; the counts above are complete.
  requeued_steps text[] not null default '{}',
  terminal_steps text[] not null default '{}',
  error text
);

-- At most one cycle at a time; one that its pod never finished is closed by the next.
create unique index recovery_cycles_running on fleet_q.recovery_cycles ((true)) where finished_at is null;
create index recovery_cycles_pod on fleet_q.recovery_cycles (pod_id);

-- A wish for a cycle, left by a pod that does not lead, and the leader's answer.
create table fleet_q.recovery_requests (
  id bigint generated always as identity primary key,
  asked_by text not null,
  options jsonb not null,
  asked_at timestamptz not null default fleet_q.clock(),
  answered_at timestamptz,
  answer jsonb,
  check ((answered_at is null) = (answer is null))
);
