import type { Sql } from '../../../src/db/connect.ts'
import type { Invariant } from './invariants.ts'

/** What the client was told, against what came of it. */
export const TOLD: Invariant[] = [
  {
    id: 'I1',
    says: 'no accepted step is lost: each has its outcome',
    witnesses: (sql) => sql`
      select format('%s (%s) was accepted at %s and has no outcome; it lies in %s', step_id, op, history.at, coalesce((
        select tray from fleet_q.step_status where step_status.key = fleet_q.step_key(history.step_id)), 'nothing')) as witness
      from chaos.history
      where f = 'submit' and not exists (
        select from fleet_q.outcomes where outcomes.step_id = fleet_q.step_key(history.step_id))
      order by at limit 3`,
  },
  {
    id: 'I2',
    says: 'no step is invented: each was asked for, under its own id, by a client or by an execution',
    witnesses: (sql) => sql`
      select format('%s was never asked for: its args are %s', fleet_q.step_public_id(id, salt, created_at), args) as witness
      from fleet_q.steps
      where coalesce(args ->> 'op', '') not like 'harm-%' and not ${isChild(sql)} and not exists (
        select from chaos.history where f = 'submit' and op = steps.args ->> 'op'
          and history.step_id = fleet_q.step_public_id(steps.id, steps.salt, steps.created_at))
      order by id limit 3`,
  },
  {
    id: 'I13',
    says: 'a cancel that was confirmed is the outcome, and nothing claims the step after it, but for a redrive',
    witnesses: (sql) => sql`
      with cancelled as materialized (
        select step_id as public_id, fleet_q.step_key(step_id) as step_id, at from chaos.history where f = 'cancel'
      )
      select format('%s: its cancel was confirmed; it is %s', public_id, outcomes.status) as witness
      from cancelled join fleet_q.outcomes using (step_id)
      where outcomes.status <> 'cancelled' and not ${redriven(sql, sql`cancelled.step_id`, sql`9223372036854775807`)}
      union all
      select format('%s was claimed (%s) by a statement that began after its cancel had been confirmed', public_id,
        taken.claim_id)
      from cancelled join chaos.taken on taken.step_id = cancelled.step_id and taken.began > cancelled.at
      where not ${redriven(sql, sql`taken.step_id`, sql`taken.seq`)}
        -- It is claimed to undo what it has done.
        and not exists (
          select from fleet_q.checkpoints where checkpoints.step_id = taken.step_id and kind = 'failure')
      limit 3`,
  },
  {
    id: 'I14',
    says: 'one key, one step: however often a submit was sent again',
    witnesses: (sql) => sql`
      select format('%s became %s steps: %s', op, cardinality(ids), (
        select string_agg(fleet_q.step_public_id(id, salt, created_at), ', ' order by id)
        from fleet_q.steps where id = any (ids))) as witness
      from (
        select args ->> 'op' as op, array_agg(id) as ids from fleet_q.steps group by 1 having count(*) > 1
      ) as twice
      where op not like 'harm-%' limit 3`,
  },
]

/** Between the last cancel of a step before this moment of the audit, and this moment. */
const redriven = (sql: Sql, stepId: ReturnType<Sql>, before: ReturnType<Sql>) => sql`
  exists (
    select from chaos.audit as redriven
    where redriven.what = 'redriven' and redriven.step_id = ${stepId} and redriven.seq < ${before} and redriven.seq > (
      select max(seq) from chaos.audit as cancel
      where cancel.what = 'settled' and cancel.detail = 'cancelled' and cancel.step_id = ${stepId}
        and cancel.seq < ${before}))`

/** Submitted by an execution that was asked for; I14 sees where it was submitted twice. */
const isChild = (sql: Sql) => sql`
  exists (
    select from fleet_q.steps as parent
    where parent.id = steps.parent_id and starts_with(steps.args ->> 'op', parent.args ->> 'op' || '/'))`
