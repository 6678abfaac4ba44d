import type { Sql } from '../../../src/db/connect.ts'
import type { Invariant } from './invariants.ts'

/** What was sent to executions, against what their waits got. */
export const HEARD: Invariant[] = [
  {
    id: 'I11',
    says: 'an event that was accepted is kept, and taken by one wait at most; a wait gets its event or is told that none came, never both',
    witnesses: (sql) => sql`
      (${lost(sql)} limit 3) union all (${invented(sql)} limit 3) union all (${taken(sql)} limit 3)
      union all (${both(sql)} limit 3) union all (${missed(sql)} limit 3)
      limit 5`,
  },
]

/** Each event of a run says in its payload which it is. */
const sent = (sql: Sql) => sql`
  select op, fleet_q.step_key(step_id) as step_id, min(at) filter (where f = 'event') as at,
    count(*) filter (where f = 'event') as accepted, count(*) as times
  from chaos.history where f in ('event', 'maybe event') group by 1, 2`

const kept = (sql: Sql) => sql`
  select payload ->> 'id' as op, step_id, count(*) as n from fleet_q.events group by 1, 2`

const lost = (sql: Sql) => sql`
  select format('step %s: event %s was accepted, and is not there', sent.step_id, sent.op) as witness
  from (${sent(sql)}) as sent left join (${kept(sql)}) as kept using (op, step_id)
  where accepted > coalesce(n, 0)
  order by sent.op`

const invented = (sql: Sql) => sql`
  select format('step %s: event %s is there %s times, and was sent %s times', kept.step_id, kept.op, n, coalesce(times, 0))
    as witness
  from (${kept(sql)}) as kept left join (${sent(sql)}) as sent using (op, step_id)
  where n > coalesce(times, 0)
  order by kept.op`

/** A wait that got something got it of an event that says so, and each such event was got. */
const taken = (sql: Sql) => sql`
  select format('step %s: wait %s for "%s" got %s, and the event that it took is %s', coalesce(wait.step_id, event.step_id),
    coalesce(wait.number, event.taken_by), coalesce(wait.name, event.name), coalesce(wait.result::text, 'nothing'),
    coalesce(event.payload::text, 'none')) as witness
  from (
    select * from fleet_q.checkpoints where kind = 'event' and arrived_at is not null
  ) as wait
  full join (
    select * from fleet_q.events where taken_by is not null
  ) as event on event.step_id = wait.step_id and event.name = wait.name and event.taken_by = wait.number
  where (wait.result is distinct from event.payload)
    and not exists (
      select from fleet_q.redrives where redrives.step_id = coalesce(wait.step_id, event.step_id))
  order by 1`

const both = (sql: Sql) => sql`
  select format('step %s: wait %s for "%s" got %s, and was told that none came', step_id, number, name, result) as witness
  from fleet_q.checkpoints
  where kind = 'event' and arrived_at is not null and error is not null
  order by step_id`

/** Whoever was told that it is kept, a second before the wait was over, was in time. */
const missed = (sql: Sql) => sql`
  select format('step %s: event %s was accepted at %s and lies there, and wait %s for it was over at %s', wait.step_id,
    sent.op, sent.at, wait.number, wait.due_at) as witness
  from (${sent(sql)}) as sent
  join fleet_q.events on events.step_id = sent.step_id and payload ->> 'id' = sent.op and taken_by is null
  join fleet_q.checkpoints as wait on wait.step_id = events.step_id and wait.name = events.name
  where wait.kind = 'event' and wait.error is not null and sent.at < wait.due_at - interval '1 second'
  order by sent.op`
