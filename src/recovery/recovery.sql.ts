import type { Sql } from '../db/connect.ts'
import { FRONT } from '../step/settle.sql.ts'

/** Every statement of a cycle carries the term: a leader that was deposed changes nothing more. */
const inTerm = (sql: Sql, term: string) => sql`
  exists (select from fleet_q.leader_terms where term = ${term} and ended_at is null)`

/** Since when a pod may have been able to report: a database that was away gives everybody a full threshold. */
const heardOf = (sql: Sql) => sql`greatest(pods.beat_at, pg_postmaster_start_time())`

const threshold = (sql: Sql) => sql`make_interval(secs => pods.dead_after_ms::float8 / 1000)`

export interface Suspect {
  id: string
  public_id: string
  silent_seconds: number
}

/**
 * The brake. Nobody is declared dead while the leader itself is back from an absence, or born, less than one threshold
 * ago: it has not seen whether the others could report. Nor while its own heart is behind: after an outage its round
 * may come before its beat. And when more than half of the fleet looks dead at once, each needs a second threshold of
 * silence: it is more likely the network, or the clock of the database.
 */
const suspects = (sql: Sql, leaderId: string) => sql`
  brake as materialized (
    select
      (
        select coalesce(bool_or(
          greatest(born_at, resumed_at) > fleet_q.clock() - ${threshold(sql)}
          or beat_at < fleet_q.clock() - ${threshold(sql)} / 2), false)
        from fleet_q.pods where id = ${leaderId}
      ) as leader_was_away,
      -- Those on their way count too: a cycle runs at the moment when the first one passes, seconds before the others.
      count(*) filter (where id <> ${leaderId} and ${heardOf(sql)} < fleet_q.clock() - ${threshold(sql)} / 2) * 2
        > count(*) as most
    from fleet_q.pods where status in ('live', 'draining')
  )`

const isDead = (sql: Sql, leaderId: string) => sql`
  pods.status in ('live', 'draining') and pods.id <> ${leaderId} and not brake.leader_was_away
  and ${heardOf(sql)} < fleet_q.clock() - ${threshold(sql)} * case when brake.most then 2 else 1 end`

/**
 * One guarded update: the conditions stand on the row itself, so a heartbeat that commits first saves its pod.
 */
export const declareDead = (sql: Sql, leaderId: string, term: string, limit: number) => sql<Suspect[]>`
  with /* recovery.declare_dead */ ${suspects(sql, leaderId)}
  update fleet_q.pods
  set status = 'dead', ended_at = fleet_q.clock(), running = 0, ended_why = format(
    'silent for %s s; its threshold is %s s',
    round(extract(epoch from fleet_q.clock() - pods.beat_at)::numeric, 1), round(pods.dead_after_ms / 1000.0, 1))
  from brake
  where pods.id = any (array(
      select pods.id from fleet_q.pods, brake where ${isDead(sql, leaderId)} order by pods.id limit ${limit}))
    and ${isDead(sql, leaderId)} and ${inTerm(sql, term)}
  returning pods.id, pods.public_id, extract(epoch from fleet_q.clock() - pods.beat_at)::float8 as silent_seconds`

/** What a cycle would do now: pods that would be declared dead, and steps that dead pods hold. */
export const foresee = (sql: Sql, leaderId: string) => sql<
  {
    public_id: string
    held: number
    requeue: string[] | null
    terminal: string[] | null
    terminal_count: number
  }[]
>`
  with /* recovery.foresee */ ${suspects(sql, leaderId)},
  doomed as materialized (
    select pods.id, pods.public_id, pods.status = 'gone' as went from fleet_q.pods, brake
    where ${isDead(sql, leaderId)} or pods.status in ('dead', 'gone')
      and exists (select from fleet_q.claims where claims.pod_id = pods.id offset 0)
  ),
  orphan as materialized (
    select claims.pod_id, held.step_id, held.attempt, step.max_retries,
      fleet_q.step_public_id(step.id, step.salt, step.created_at) as public_id,
      -- What a pod left behind when it said goodbye costs no attempt.
      not doomed.went and not ${gotFurther(sql, sql`held.step_id`, sql`claims.id`)}
        and (held.attempt > step.max_retries or ${crashes(sql, sql`held.step_id`)} >= 2) as terminal
    from doomed
    cross join lateral (select * from fleet_q.claims where pod_id = doomed.id offset 0) as claims
    cross join unnest(claims.step_ids, claims.attempts) as held (step_id, attempt)
    cross join lateral (select * from fleet_q.steps where id = held.step_id offset 0) as step
    where ${unsettled(sql, sql`held.step_id`, sql`claims.id`)}
    limit 100000
  )
  select doomed.public_id, count(orphan.step_id)::int as held,
    (array_agg(orphan.public_id order by orphan.step_id) filter (where not terminal))[1:1000] as requeue,
    (array_agg(orphan.public_id order by orphan.step_id) filter (where terminal))[1:1000] as terminal,
    count(orphan.step_id) filter (where terminal)::int as terminal_count
  from doomed left join orphan on orphan.pod_id = doomed.id
  group by doomed.id, doomed.public_id`

/** Neither an outcome nor an attempt row of this claim. `offset 0`: look-ups for each row, see exchange.sql.ts. */
const unsettled = (sql: Sql, stepId: ReturnType<Sql>, claimId: ReturnType<Sql>) => sql`
  not exists (select from fleet_q.outcomes where outcomes.step_id = ${stepId} offset 0)
  and not exists (
    select from fleet_q.attempts
    where attempts.step_id = ${stepId} and attempts.claim_id = ${claimId} offset 0)`

/** How many pods died under a step since it was last redriven, or came to a new checkpoint. */
const crashes = (sql: Sql, stepId: ReturnType<Sql>) => sql`
  (
    select count(*) from fleet_q.attempts
    where attempts.step_id = ${stepId} and attempts.ended = 'pod_died'
      and attempts.ended_at > coalesce(
        greatest(
          (select max(at) from fleet_q.redrives where redrives.step_id = ${stepId}),
          (
            select max(at) from fleet_q.checkpoints
            where checkpoints.step_id = ${stepId} and turn is not null and error is null),
          (select max(put_aside_at) from fleet_q.past_checkpoints where past_checkpoints.step_id = ${stepId})),
        '-infinity')
  )`

/** Retries are counted from the last checkpoint: a month of sleeps sees many deploys, and they are no fault of the step. */
const gotFurther = (sql: Sql, stepId: ReturnType<Sql>, claimId: ReturnType<Sql>) => sql`
  exists (
    select from fleet_q.checkpoints
    where checkpoints.step_id = ${stepId} and checkpoints.claim_id = ${claimId} and turn is not null
      and error is null offset 0)`

export const countCrashes = (sql: Sql, stepId: string) => sql<{ crashes: number }[]>`
  select /* recovery.crashes */ ${crashes(sql, sql`${stepId}::bigint`)}::int as crashes`

/**
 * After so many steps a batch takes no further claim. A step costs its batch 25 us (measured): 50 claims of pods with
 * 8,000 slots would take longer than a statement may, time and again.
 */
const STEPS_PER_BATCH = 10_000

export interface OrphanClaim {
  id: string
  pod_id: string
  pod: string
  died: boolean
  taken_at: Date
  step_ids: string[]
  attempts: number[]
}

/**
 * First statement of two: deletes claim rows of dead pods. A settle in flight holds its claim's row; such a claim is
 * left to the next look. From here on nobody can settle under these claims.
 *
 * From the pods to their claims, never over all claims: behind a held-back xmin horizon those of the living leave a
 * dead row for each batch, and a cycle would walk them all.
 */
export const takeOrphanClaims = (sql: Sql, term: string, limit: number) => sql<OrphanClaim[]>`
  with /* recovery.take_claims */ orphan as materialized (
    select held.id, held.steps from (
      select id from fleet_q.pods where status in ('dead', 'gone') and ${inTerm(sql, term)} order by id
    ) as ended
    cross join lateral (
      select claims.id, cardinality(claims.step_ids) as steps from fleet_q.claims
      where claims.pod_id = ended.id limit ${limit} for update skip locked
    ) as held
    limit ${limit}
  ),
  gone as (
    delete from fleet_q.claims where id = any (array(
      select id from (select id, sum(steps) over (order by id) - steps as before from orphan) as run
      where before < ${STEPS_PER_BATCH}))
    returning id, pod_id, taken_at, step_ids, attempts
  )
  select gone.id, gone.pod_id, pod.public_id as pod, pod.died, gone.taken_at, gone.step_ids, gone.attempts
  from gone cross join lateral (
    select public_id, status = 'dead' as died from fleet_q.pods where id = gone.pod_id offset 0
  ) as pod`

/** Ids named in the report of a cycle; its counts are complete. To spell an id takes as long as to put a step back. */
export const STEPS_NAMED_MAX = 1000

export interface Fate {
  fate: 'requeued' | 'terminal'
  steps: number
  named: string[]
}

/**
 * Second statement, with a fresh snapshot: puts back what has neither an outcome nor an attempt row of that claim. In
 * one statement with the delete, the look at `outcomes` would be older than the settle that the delete has waited
 * for, and a settled step would come back (tried on Postgres 15: it does).
 *
 * A step is put back to the front of its lane at once after its first dead pod; after the second it is spread over
 * some seconds, so that the innocent part from the step that kills; the third time it is taken for poison.
 */
export const putBack = (sql: Sql, claims: OrphanClaim[], poisonAfter: number, spreadMs: number) => sql<
  Fate[]
>`
  with /* recovery.put_back */ orphan as materialized (
    select held.*, step.lane_id, step.max_retries, step.salt, step.created_at,
      case when held.died then ${crashes(sql, sql`held.step_id`)} + 1 else 0 end as crashes,
      ${gotFurther(sql, sql`held.step_id`, sql`held.claim_id`)} as got_further
    from (
      -- What belongs to a claim comes once for each claim, not once for each of its hundreds of steps.
      select o.step_id, o.attempt, (${claims.map((c) => c.id)}::bigint[])[o.place] as claim_id,
        (${claims.map((c) => c.pod_id)}::bigint[])[o.place] as pod_id,
        (${claims.map((c) => String(c.died))}::text[])[o.place] = 'true' as died,
        (${claims.map((c) => c.taken_at.toISOString())}::timestamptz[])[o.place] as taken_at,
        (${claims.map((c) => c.pod)}::text[])[o.place] as pod
      from unnest(
        ${claims.flatMap((c, n) => c.step_ids.map(() => n + 1))}::int[], ${claims.flatMap((c) => c.step_ids)}::bigint[],
        ${claims.flatMap((c) => c.attempts)}::smallint[]
      ) as o (place, step_id, attempt)
    ) as held
    cross join lateral (select * from fleet_q.steps where id = held.step_id offset 0) as step
    where ${unsettled(sql, sql`held.step_id`, sql`held.claim_id`)}
  ),
  condemned as materialized (
    select orphan.*, case
      when not died or got_further then null
      when crashes >= ${poisonAfter} then 'poison'
      -- One that undoes what it did has used up its retries, and goes on undoing until it kills.
      when attempt > max_retries and not exists (
        select from fleet_q.checkpoints
        where checkpoints.step_id = orphan.step_id and name = '$failure' and number = 1 offset 0) then 'dead_pod'
      end as given_up
    from orphan
  ),
  sentence as materialized (
    select step_id, jsonb_build_object(
      'class', case given_up when 'poison' then 'Poison' else 'PodDied' end,
      'message', case given_up
        when 'poison' then format('%s pods died while they held this step, the last was %s', crashes, pod)
        else format('%s died while it held this step, and no retry was left', pod) end) as error
    from condemned where given_up is not null
  ),
  undoing as (
    -- It has something to undo, and has not begun to: another pod does that, and ends it.
    insert into fleet_q.checkpoints (step_id, name, number, kind, after_turn, claim_id, error)
    select step_id, '$failure', 1, 'failure', 0, 0, error from sentence
    where exists (
      select from fleet_q.checkpoints
      where checkpoints.step_id = sentence.step_id and kind = 'undo' and turn is not null offset 0)
    order by step_id
    on conflict (step_id, name, number) do nothing
    returning step_id
  ),
  judged as materialized (
    select condemned.*, undoing.step_id is not null as undoes,
      case when undoing.step_id is null then given_up end as reason
    from condemned left join undoing using (step_id)
  ),
  tried as (
    insert into fleet_q.attempts (step_id, claim_id, attempt, pod_id, ended, started_at, ended_at, error)
    select step_id, claim_id, attempt, pod_id,
      case when died then 'pod_died' else 'released' end::fleet_q.attempt_end, taken_at, fleet_q.clock(),
      case when died then jsonb_build_object('class', 'PodDied', 'message', pod || ' died while it held this step') end
    from judged where reason is null
    order by step_id, claim_id
  ),
  to_ready as (
    insert into fleet_q.ready (lane_id, position, step_id, attempt)
    select lane_id, nextval('fleet_q.positions') - ${FRONT}::bigint, step_id,
      case when got_further or undoes then 1 when died then attempt + 1 else attempt end
    from judged where reason is null and (crashes < 2 or undoes)
    order by claim_id, step_id
  ),
  to_later as (
    insert into fleet_q.later (step_id, lane_id, due_at, attempt, why)
    select step_id, lane_id, fleet_q.clock() + make_interval(secs => random() * ${spreadMs}::float8 / 1000),
      attempt + 1, 'spread'
    from judged where reason is null and crashes >= 2 and not undoes
    order by step_id
    on conflict do nothing
  ),
  ended as (
    insert into fleet_q.outcomes (step_id, status, attempt, claim_id, pod_id, started_at, error)
    select step_id, 'failed', attempt, claim_id, pod_id, taken_at, sentence.error
    from judged join sentence using (step_id) where reason is not null
    order by step_id
    on conflict (step_id) do nothing
    returning step_id
  ),
  letters as (
    insert into fleet_q.dead_letters (step_id, reason)
    select step_id, reason::fleet_q.dead_letter_reason from judged
    where step_id in (select step_id from ended)
    order by step_id
    on conflict do nothing
  )
  select fate, count(*)::int as steps, array(
      select fleet_q.step_public_id(step_id, salt, created_at) from judged
      where (reason is null) = (fates.fate = 'requeued') order by step_id limit ${STEPS_NAMED_MAX}
    ) as named
  from (select case when reason is null then 'requeued' else 'terminal' end as fate from judged) as fates
  group by fate`

/** Is there anything to recover, or anybody to doubt? Cheap: a leader asks this between cycles. */
export const findWork = (sql: Sql, leaderId: string) => sql<
  { orphaned: boolean; due_ms: number | null; requested: boolean }[]
>`
  select /* recovery.look */
    exists (
      select from fleet_q.pods
      where status in ('dead', 'gone') and exists (select from fleet_q.claims where pod_id = pods.id offset 0)
    ) as orphaned,
    (
      select extract(epoch from min(${heardOf(sql)} + ${threshold(sql)}) - fleet_q.clock())::float8 * 1000
      from fleet_q.pods where status in ('live', 'draining') and id <> ${leaderId}
    ) as due_ms,
    exists (select from fleet_q.recovery_requests where answered_at is null) as requested`

export const beginCycle = (sql: Sql, podId: string, term: string, forced: boolean) => sql<{ id: string }[]>`
  insert /* recovery.begin */ into fleet_q.recovery_cycles (pod_id, term, forced)
  values (${podId}, ${term}, ${forced})
  on conflict ((true)) where finished_at is null do nothing
  returning id`

/**
 * Closes a cycle whose pod is gone or whose time is long over, so that another can begin; and those of this pod that
 * are not `underWay` in it: their end could not be written, the database was away.
 */
export const closeStaleCycles = (sql: Sql, staleSeconds: number, podId: string, underWay: string[]) => sql`
  update /* recovery.close_stale */ fleet_q.recovery_cycles as cycle
  set finished_at = fleet_q.clock(), error = 'never finished: its pod died, lost its term, or could not write the end'
  from fleet_q.pods
  where cycle.finished_at is null and pods.id = cycle.pod_id and (
    pods.status in ('dead', 'gone') or (cycle.pod_id = ${podId} and cycle.id <> all (${underWay}::bigint[]))
    or cycle.started_at < fleet_q.clock() - make_interval(secs => ${staleSeconds})
    or not exists (
      select from fleet_q.leader_terms where leader_terms.term = cycle.term and leader_terms.ended_at is null))`

export interface CycleReport {
  durationMs: number
  deadPods: string[]
  orphaned: number
  requeued: number
  terminal: number
  requeuedSteps: string[]
  terminalSteps: string[]
  error: string | null
}

export const finishCycle = (sql: Sql, id: string, report: CycleReport) => sql`
  update /* recovery.finish */ fleet_q.recovery_cycles set
    finished_at = fleet_q.clock(), duration_ms = ${report.durationMs}, dead_pods = ${report.deadPods}::text[],
    orphaned = ${report.orphaned}, requeued = ${report.requeued}, terminal = ${report.terminal},
    requeued_steps = ${report.requeuedSteps}::text[], terminal_steps = ${report.terminalSteps}::text[],
    error = ${report.error}
  where id = ${id}`

export interface CycleRow {
  id: string
  pod: string
  term: string | null
  forced: boolean
  started_at: Date
  finished_at: Date | null
  duration_ms: number | null
  dead_pods: string[]
  orphaned: number
  requeued: number
  terminal: number
  requeued_steps: string[]
  terminal_steps: string[]
  error: string | null
}

/** `endedWithinSeconds`: only those that ended so lately. */
export const listCycles = (
  sql: Sql,
  before: string | null,
  limit: number,
  endedWithinSeconds: number | null = null,
) => sql<CycleRow[]>`
  select /* recovery.cycles */ cycle.id, pods.public_id as pod, term, forced, started_at, finished_at, duration_ms,
    dead_pods, orphaned, requeued, terminal, requeued_steps, terminal_steps, error
  from fleet_q.recovery_cycles as cycle join fleet_q.pods on pods.id = cycle.pod_id
  where cycle.id < coalesce(${before}::bigint, 9223372036854775807)
    and (${endedWithinSeconds}::float8 is null
      or finished_at > fleet_q.clock() - make_interval(secs => ${endedWithinSeconds}::float8))
  order by cycle.id desc limit ${limit}`

export const findRunningCycle = (sql: Sql) => sql<{ id: string; pod: string }[]>`
  select /* recovery.running */ cycle.id, pods.public_id as pod
  from fleet_q.recovery_cycles as cycle join fleet_q.pods on pods.id = cycle.pod_id
  where finished_at is null`

export const askLeader = (sql: Sql, askedBy: string, options: string) => sql<{ id: string }[]>`
  insert /* recovery.ask */ into fleet_q.recovery_requests (asked_by, options)
  values (${askedBy}, ${options}::text::jsonb) returning id`

export const findRequests = (sql: Sql, limit: number) => sql<
  { id: string; options: Record<string, boolean> }[]
>`
  select /* recovery.requests */ id, options from fleet_q.recovery_requests
  where answered_at is null order by id limit ${limit}`

export const answerRequest = (sql: Sql, id: string, answer: string) => sql`
  update /* recovery.answer */ fleet_q.recovery_requests
  set answer = ${answer}::text::jsonb, answered_at = fleet_q.clock() where id = ${id} and answered_at is null`

export const findAnswer = (sql: Sql, id: string) => sql<{ answer: unknown }[]>`
  select /* recovery.answer_of */ answer from fleet_q.recovery_requests where id = ${id} and answered_at is not null`

export interface DeadLetterRow {
  id: string
  step_id: string
  type: string
  reason: string
  at: Date
  attempt: number
  pod: string | null
  error: Record<string, unknown> | null
}

export const listDeadLetters = (
  sql: Sql,
  filter: { reason: string | null; type: string | null; before: string | null },
  limit: number,
) => sql<DeadLetterRow[]>`
  select /* recovery.dead_letters */ letter.step_id as id,
    fleet_q.step_public_id(step.id, step.salt, step.created_at) as step_id, lanes.type, letter.reason, letter.at,
    outcome.attempt, pods.public_id as pod, outcome.error
  from fleet_q.dead_letters as letter
  cross join lateral (select * from fleet_q.outcomes where step_id = letter.step_id offset 0) as outcome
  cross join lateral (select * from fleet_q.steps where id = letter.step_id offset 0) as step
  cross join lateral (select type from fleet_q.lanes where id = step.lane_id offset 0) as lanes
  left join lateral (select public_id from fleet_q.pods where id = outcome.pod_id offset 0) as pods on true
  where letter.step_id < coalesce(${filter.before}::bigint, 9223372036854775807)
    and (${filter.reason}::text is null or letter.reason::text = ${filter.reason})
    and (${filter.type}::text is null or lanes.type = ${filter.type})
  order by letter.step_id desc limit ${limit}`

export const findDeadLetter = (sql: Sql, stepId: string) => sql<{ step_id: string }[]>`
  select /* recovery.dead_letter */ step_id from fleet_q.dead_letters where step_id = ${stepId}`
