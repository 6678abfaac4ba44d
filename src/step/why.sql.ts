import type { Sql } from '../db/connect.ts'

export const findNow = (sql: Sql) => sql<{ now: Date }[]>`select /* step.now */ fleet_q.clock() as now`

/** Living pods, what they can carry and whether this type is among it. */
export const findFleetSlots = (sql: Sql, type: string) => sql<
  { public_id: string; capacity: number; running: number; types: string[]; handles: boolean }[]
>`
  select /* step.fleet_slots */ public_id, capacity,
    (
      select count(*) from fleet_q.claims, unnest(claims.step_ids) as held (step_id)
      where claims.pod_id = pods.id
        and not exists (select from fleet_q.outcomes where outcomes.step_id = held.step_id offset 0)
        and not exists (
          select from fleet_q.attempts
          where attempts.step_id = held.step_id and attempts.claim_id = claims.id offset 0)
    )::int as running,
    types, ${type} = any (types) as handles
  from fleet_q.pods
  where status = 'live' and not drain_wanted
    and beat_at > fleet_q.clock() - make_interval(secs => dead_after_ms::float8 / 1000)
  order by id limit 1000`

/** What an execution sleeps over or waits for. */
export const findOpenCheckpoints = (sql: Sql, stepId: string) => sql<
  { kind: string; name: string; due_at: Date | null; child: string | null }[]
>`
  select /* step.open_checkpoints */ open.kind, open.name, open.due_at,
    (
      select fleet_q.step_public_id(id, salt, created_at) from fleet_q.steps where steps.id = open.child_id offset 0
    ) as child
  from fleet_q.checkpoints as open
  where open.step_id = ${stepId} and open.turn is null
  order by open.after_turn, open.name, open.number limit 20`

/** A pause of this one execution, or of all whose ids fit. */
export const findExecutionPause = (sql: Sql, stepId: string) => sql<
  { execution: string; paused_at: Date; until: Date | null; reason: string | null }[]
>`
  select /* step.pause_of */ execution, paused_at, until, reason from fleet_q.pause_of(${stepId})`
