import type { Sql } from '../../../src/db/connect.ts'
import type { Invariant } from './invariants.ts'

/** What executions remember: once, for ever, and the same for every attempt of theirs. */
export const REMEMBERED: Invariant[] = [
  {
    id: 'I10',
    says: 'a checkpoint is final: no result but one is ever accepted, given to a handler, or written under a claim that is gone',
    witnesses: (sql) => sql`
      (${changed(sql)} limit 3) union all (${late(sql)} limit 3) union all (${twins(sql)} limit 3)
      union all (${strayed(sql)} limit 3) union all (${given(sql)} limit 3) union all (${told(sql)} limit 3)
      union all (${written(sql)} limit 3) union all (${left(sql)} limit 3) union all (${notUndone(sql)} limit 3)
      limit 5`,
  },
]

/** It begins anew: what an earlier life of it did is no witness. */
const isRedriven = (sql: Sql, stepId: ReturnType<Sql>) => sql`
  exists (select from fleet_q.redrives where redrives.step_id = ${stepId})`

const changed = (sql: Sql) => sql`
  select format('step %s: %s (%s)', step_id, what, detail) as witness
  from chaos.audit as change
  where what = 'checkpoint changed'
    or what = 'checkpoint gone' and exists (select from fleet_q.steps where id = change.step_id) and not exists (
      select from chaos.audit as redriven
      where redriven.what = 'redriven' and redriven.step_id = change.step_id and redriven.tx = change.tx)
  order by seq`

const late = (sql: Sql) => sql`
  select format('step %s: "%s" was written under claim %s, which had been taken away', late.step_id, late.detail,
    late.claim_id) as witness
  from chaos.audit as late
  join chaos.audit as gone on gone.what = 'gone' and gone.claim_id = late.claim_id
  where late.what = 'remembered' and gone.tx <> late.tx and gone.seq < late.seq
  order by late.seq`

/** Results are handed out by their turns: of two that have one, a replay gives one and waits for the other for ever. */
const twins = (sql: Sql) => sql`
  select format('step %s has %s results of turn %s', step_id, count(*), turn) as witness
  from fleet_q.checkpoints where turn is not null
  group by step_id, turn having count(*) > 1
  order by step_id`

/** The code of a run does not change: no replay of it asks for other names. */
const strayed = (sql: Sql) => sql`
  select format('step %s: a replay asked for something else: %s', step_id, error ->> 'message') as witness
  from fleet_q.attempts where ended::text = 'misfit'
  order by step_id`

const given = (sql: Sql) => sql`
  select format('step %s was given %s at "%s", and remembers %s', step_id, left(given.value::text, 60), given.place,
    coalesce(left(result::text, 60), 'nothing')) as witness
  from (
    select fleet_q.step_key(effects.step_id) as step_id, each.key as place, each.value
    from chaos.effects cross join lateral jsonb_each(effects.seen) as each
    union
    select outcomes.step_id, each.key, each.value
    from fleet_q.outcomes cross join lateral jsonb_each(outcomes.result -> 'seen') as each
  ) as given
  left join lateral (
    select result from fleet_q.checkpoints
    where checkpoints.step_id = given.step_id and turn is not null
      and name = substring(given.place from '[0-9]+ (.*)') and number = substring(given.place from '[0-9]+')::int
    offset 0
  ) as kept on true
  where kept.result is distinct from given.value and not ${isRedriven(sql, sql`given.step_id`)}
  order by step_id`

/** A body may run again, and brings something else then: of all that the sink was told one is accepted. */
const told = (sql: Sql) => sql`
  select format('step %s remembers %s of "%s", and the sink was told that %s times', step_id, result, name,
    coalesce(told.n, 0)) as witness
  from fleet_q.checkpoints
  left join (
    select fleet_q.step_key(step_id) as id, place, value, count(*) as n from chaos.effects
    where place is not null group by 1, 2, 3
  ) as told on told.id = step_id and told.place = number || ' ' || name and to_jsonb(told.value) = result
  where kind = 'run' and name = 'effect' and turn is not null and error is null and told.n is distinct from 1
    and not ${isRedriven(sql, sql`checkpoints.step_id`)}
  order by step_id`

const written = (sql: Sql) => sql`
  select format('step %s remembers %s at "%s", and wrote %s rows there, the first of them %s',
    coalesce(kept.step_id, written.step_id), coalesce(kept.result::text, 'nothing'), coalesce(kept.place, written.place),
    coalesce(written.n, 0), written.value) as witness
  from (
    select step_id, number || ' ' || name as place, result from fleet_q.checkpoints
    where kind = 'run' and name = 'ledger' and turn is not null and error is null
  ) as kept
  full join (
    select fleet_q.step_key(step_id) as step_id, place, count(*) as n, min(value) as value
    from chaos.written group by 1, 2
  ) as written on written.step_id = kept.step_id and written.place = kept.place
  where (kept.step_id is null or written.n is distinct from 1 or to_jsonb(written.value) <> kept.result)
    and not ${isRedriven(sql, sql`coalesce(kept.step_id, written.step_id)`)}
  order by 1`

const left = (sql: Sql) => sql`
  select format('step %s has completed, and "%s" is open', step_id, name) as witness
  from fleet_q.checkpoints join fleet_q.outcomes using (step_id)
  where outcomes.status::text = 'completed' and turn is null and kind <> 'failure'
  order by step_id`

/**
 * What failed for good, or was cancelled, has undone what it had registered by then; what has not, has undone nothing.
 * Where its pods died of it, it was given up.
 */
const notUndone = (sql: Sql) => sql`
  select format('step %s is %s, and "%s" was %s', undo.step_id, outcomes.status, undo.name,
    case when outcomes.status::text = 'completed' then 'undone' else 'not undone' end) as witness
  from fleet_q.checkpoints as undo join fleet_q.outcomes using (step_id)
  where undo.kind = 'undo' and undo.turn is not null
    and exists (
      select from fleet_q.checkpoints as done
      where done.step_id = undo.step_id and done.name = undo.name || '/undo' and done.number = undo.number
        and done.turn is not null) = (outcomes.status::text = 'completed')
    and not exists (
      select from fleet_q.dead_letters
      where dead_letters.step_id = undo.step_id and reason in ('poison', 'dead_pod'))
    -- Registered when it had its outcome already: nobody saw it.
    and not exists (
      select from chaos.audit as ended join chaos.audit as registered using (step_id)
      where ended.step_id = undo.step_id and ended.what = 'settled' and registered.what = 'remembered'
        and registered.detail = undo.number || ' ' || undo.name and ended.seq < registered.seq)
  order by undo.step_id`
