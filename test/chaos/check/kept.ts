import type { Sql } from '../../../src/db/connect.ts'
import type { Invariant } from './invariants.ts'

/** What is true of the tables, of their history and of what handlers did, whatever anybody was told. */
export const KEPT: Invariant[] = [
  {
    id: 'I3',
    says: 'an outcome is final: one for each step, changed by nobody, put aside by a redrive alone',
    witnesses: (sql) => sql`
      select format('step %s was settled %s times and redriven %s times; its outcome was put aside %s times and changed %s times',
        step_id, settled, redriven, put_aside, changed) as witness
      from (
        select step_id, count(*) filter (where what = 'settled') as settled,
          count(*) filter (where what = 'redriven') as redriven,
          count(*) filter (where what = 'delete of an outcome') as put_aside,
          count(*) filter (where what = 'update of an outcome') as changed
        from chaos.audit where what in ('settled', 'redriven', 'delete of an outcome', 'update of an outcome')
        group by step_id
      ) as counts
      where changed > 0 or put_aside <> redriven or settled <> redriven + 1
      order by step_id limit 3`,
  },
  {
    id: 'I4',
    says: 'late answers change nothing: what counts was handed in under the last claim that was made, while it stood',
    witnesses: (sql) => sql`
      select format('step %s is settled under claim %s, and claim %s was made for it', outcomes.step_id,
        outcomes.claim_id, coalesce(last.claim_id::text, 'none')) as witness
      from fleet_q.outcomes
      left join (
        select step_id, max(claim_id) as claim_id from chaos.taken group by step_id
      ) as last using (step_id)
      where outcomes.claim_id is not null and outcomes.claim_id is distinct from last.claim_id
      union all
      select format('step %s was handed in (%s) under claim %s, which had been taken away', late.step_id, late.detail,
        late.claim_id)
      from chaos.audit as late
      join chaos.audit as gone on gone.what = 'gone' and gone.claim_id = late.claim_id
      where late.what in ('tried', 'settled') and gone.tx <> late.tx and gone.seq < late.seq
        -- A redrive keeps what it puts aside as an attempt: the claim of that is long gone.
        and not exists (
          select from chaos.audit as redriven
          where redriven.what = 'redriven' and redriven.step_id = late.step_id and redriven.tx = late.tx)
      limit 3`,
  },
  {
    id: 'I5',
    says: 'what a handler writes in its transaction is there once if its attempt completed the step, and else not at all',
    witnesses: (sql) => sql`
      with written as (
        select fleet_q.step_key(step_id) as id, count(*) as rows, min(attempt) as attempt from chaos.ledger group by 1
      )
      select format('step %s is %s, by attempt %s; the ledger has %s rows, of attempt %s', steps.id,
        outcomes.status, outcomes.attempt, coalesce(written.rows, 0), written.attempt) as witness
      from fleet_q.steps
      join fleet_q.lanes on lanes.id = steps.lane_id and lanes.type = 'ledger'
      left join fleet_q.outcomes on outcomes.step_id = steps.id
      left join written on written.id = steps.id
      where case when outcomes.status = 'completed'
        then written.rows is distinct from 1 or written.attempt <> outcomes.attempt
        else written.rows is not null end
      limit 3`,
  },
  {
    id: 'I6',
    says: 'attempts are bounded and numbered without gaps, in an execution since its last checkpoint; nothing outside happened for an attempt that never was',
    witnesses: (sql) => sql`
      with burnt as (
        select step_id, count(*) filter (where ended::text not in ('released', 'snoozed', 'suspended', 'misfit')) as n,
          count(*) filter (where ended = 'pod_died') as crashes
        from fleet_q.attempts
        where ended_at > coalesce(
          (select max(at) from fleet_q.redrives where redrives.step_id = attempts.step_id), '-infinity')
          and ended_at > coalesce((
            select max(at) from fleet_q.checkpoints
            where checkpoints.step_id = attempts.step_id and turn is not null and error is null), '-infinity')
        group by step_id
      )
      select format('step %s was settled in attempt %s after %s that counted', step_id, attempt, coalesce(n, 0)) as witness
      from fleet_q.outcomes left join burnt using (step_id)
      where claim_id is not null and attempt <> coalesce(n, 0) + 1 and not ${remembers(sql, sql`outcomes.step_id`)}
      union all
      select format('step %s went on as attempt %s after attempt %s (%s)', step_id, next, attempt, ended)
      from (
        select taken.step_id, taken.claim_id, taken.attempt, lead(taken.attempt) over each as next, attempts.ended::text
        from chaos.taken left join fleet_q.attempts using (step_id, claim_id)
        window each as (partition by taken.step_id order by taken.claim_id)
      ) as each_claim
      where next > 1 and ${remembers(sql, sql`each_claim.step_id`)}
        and next <> attempt + case when ended in ('released', 'snoozed', 'suspended', 'misfit') then 0 else 1 end
        -- It got further under that claim, and failed then.
        and not (next = 2 and exists (
          select from chaos.audit where what = 'remembered' and audit.step_id = each_claim.step_id
            and audit.claim_id = each_claim.claim_id))
      union all
      select format('step %s may be tried %s times and was tried %s times', step_id, max_retries + 1, attempt)
      from fleet_q.outcomes join fleet_q.steps on steps.id = step_id
      where attempt > max_retries + 1
        -- One whose tries are used up goes on undoing what it did, after its pod has died as well.
        and not exists (
          select from fleet_q.checkpoints where checkpoints.step_id = outcomes.step_id and kind = 'failure')
      union all
      select format('step %s has killed %s pods', step_id, crashes) from burnt where crashes > 3
      union all
      select format('the sink was asked for attempt %s of %s, which was never claimed', effects.attempt, effects.step_id)
      from chaos.effects
      where not exists (
        select from chaos.taken
        where taken.step_id = fleet_q.step_key(effects.step_id) and taken.attempt = effects.attempt)
      limit 3`,
  },
  {
    id: 'I7',
    says: 'one owner: a step is claimed again only after its claim before was ended',
    witnesses: (sql) => sql`
      with each_claim as (
        select step_id, claim_id, seq, lead(claim_id) over each as next_claim, lead(seq) over each as next_seq
        from chaos.taken window each as (partition by step_id order by claim_id)
      )
      select format('step %s was claimed by claim %s while claim %s held it', taken.step_id, next_claim, taken.claim_id) as witness
      from each_claim as taken
      where next_claim is not null and not exists (
        select from chaos.audit where what in ('tried', 'settled') and audit.step_id = taken.step_id
          and audit.claim_id = taken.claim_id and audit.seq < taken.next_seq)
        -- A cancel ends a claim's say in a step without a word of its holder.
        and not exists (
          select from chaos.audit where what = 'settled' and audit.step_id = taken.step_id
            and audit.claim_id is null and audit.seq between taken.seq and taken.next_seq)
      limit 3`,
  },
  {
    id: 'I8',
    says: 'limits hold over the fleet: never more at once than max_running, nor than max_running_per_key',
    witnesses: (sql) => sql`
      with limited as (
        select steps.id, lanes.type, lanes.key, limits.max_running, limits.max_running_per_key
        from fleet_q.steps join fleet_q.lanes on lanes.id = steps.lane_id join fleet_q.limits using (type)
      ),
      -- Not those that were cancelled while a claim took them: their outcome was written first.
      held as (
        select * from chaos.taken as each_claim
        where not exists (
          select from chaos.audit as cancelled
          where cancelled.step_id = each_claim.step_id and what = 'settled' and claim_id is null
            and cancelled.seq < each_claim.seq and not exists (
              select from chaos.audit as undone
              where undone.step_id = cancelled.step_id and what = 'delete of an outcome'
                and undone.seq between cancelled.seq and each_claim.seq))
      ),
      change as (
        select limited.*, taken.seq, 1 as by from held as taken join limited on limited.id = taken.step_id
        union all
        (select distinct on (audit.step_id, taken.claim_id) limited.*, audit.seq, -1
        from held as taken join limited on limited.id = taken.step_id
        join chaos.audit on audit.step_id = taken.step_id and audit.what in ('tried', 'settled')
          and (audit.claim_id = taken.claim_id or audit.claim_id is null) and audit.seq > taken.seq
        order by audit.step_id, taken.claim_id, audit.seq)
      ),
      run as (
        select type, key, max_running, max_running_per_key, seq,
          sum(by) over (partition by type order by seq, by) as running,
          sum(by) over (partition by type, key order by seq, by) as of_key
        from change
      )
      select format('%s of type %s ran at once, and %s of key "%s" (audit %s)', running, type, of_key, key, seq) as witness
      from run where running > max_running or of_key > max_running_per_key
      order by seq limit 3`,
  },
  {
    id: 'I16',
    says: 'terms grow, one at a time; nobody takes a claim of another pod away whose term has ended',
    witnesses: (sql) => sql`
      with terms as materialized (
        select detail::bigint as term, min(pod_id) as pod_id, min(seq) filter (where what = 'term began') as began_seq,
          min(seq) filter (where what = 'term ended') as ended_seq, min(at) filter (where what = 'term ended') as ended_at
        from chaos.audit where what in ('term began', 'term ended') group by 1
      )
      select format('term %s began before term %s had ended', next, term) as witness
      from (
        select *, lead(term) over by_term as next, lead(began_seq) over by_term as next_seq
        from terms window by_term as (order by term)
      ) as each_term
      where next is not null and (ended_seq is null or ended_seq > next_seq)
      union all
      select format('claim %s of pod %s was taken away by %s, which had no term', gone.claim_id, gone.pod_id, detail)
      from chaos.audit as gone
      join fleet_q.pods as taker on taker.public_id = substring(gone.detail from '^fleet-q [a-z]+ (.*)$')
      where gone.what = 'gone' and gone.pod_id <> taker.id and not exists (
        select from terms where terms.pod_id = taker.id and began_seq < gone.seq
          -- When an end is committed nobody writes down: it is so soon after it was written.
          and (ended_at is null or ended_at > gone.began - interval '1 second'))
      limit 3`,
  },
  {
    id: 'I17',
    says: 'nothing is left: no claim, nothing in a lane, nothing due',
    witnesses: (sql) => sql`
      select format('claim %s of pod %s stands, over step %s', id, pod_id,
        array_to_string(step_ids[1:3], ', step ')) as witness
      from fleet_q.claims
      union all select format('step %s lies in later', step_id) from fleet_q.later
        where not exists (select from fleet_q.outcomes where outcomes.step_id = later.step_id)
      union all select format('step %s lies in ready', step_id) from fleet_q.ready
        where not exists (select from fleet_q.outcomes where outcomes.step_id = ready.step_id)
      limit 3`,
  },
]

/** Its attempts are counted from its last checkpoint. */
const remembers = (sql: Sql, stepId: ReturnType<Sql>) => sql`
  exists (select from fleet_q.checkpoints where checkpoints.step_id = ${stepId})`
