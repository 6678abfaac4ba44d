import type { Bug } from '../bugs.ts'

const FILE = 'src/recovery/recovery.sql.ts'

/** What the dead held, and the leader that puts it back. */
export const RECOVERY: Bug[] = [
  {
    what: 'recovery puts back without looking for outcomes',
    changes: [
      {
        file: FILE,
        from: '    where ${unsettled(sql, sql`held.step_id`, sql`held.claim_id`)}\n  ),\n  condemned',
        to: '  ),\n  condemned',
      },
    ],
    layers: ['race/recovery: two cycles run'],
  },
  {
    what: 'recovery asks whether the step has ended, not whether this claim was handed in',
    changes: [
      {
        file: FILE,
        from: '    where attempts.step_id = ${stepId} and attempts.claim_id = ${claimId} offset 0)`',
        to: '    where false and attempts.step_id = ${stepId} and attempts.claim_id = ${claimId} offset 0)`',
      },
    ],
    layers: ['race/recovery: two cycles run'],
  },
  {
    what: 'recovery takes any attempt of the step for one of this claim',
    changes: [
      {
        file: FILE,
        from: 'attempts.step_id = ${stepId} and attempts.claim_id = ${claimId}',
        to: 'attempts.step_id = ${stepId} and ${claimId} is not null',
      },
    ],
    layers: ['recovery/who-is-dead: a step that two pods died of'],
  },
  {
    what: 'recovery in a single statement: it deletes claims, and looks with a snapshot from before it waited for them',
    changes: [
      {
        file: FILE,
        from: 'where claims.pod_id = ended.id limit ${limit} for update skip locked',
        to: 'where claims.pod_id = ended.id limit ${limit}',
      },
      {
        file: FILE,
        from: '    delete from fleet_q.claims where id = any (array(\n',
        to: '    select id, pod_id, taken_at, step_ids, attempts from fleet_q.claims where id = any (array(\n',
      },
      {
        file: FILE,
        from: '    returning id, pod_id, taken_at, step_ids, attempts\n',
        to: '',
      },
      {
        file: FILE,
        from: 'with /* recovery.put_back */ orphan as materialized (',
        to: `with /* recovery.put_back */ taken as (
    delete from fleet_q.claims where id = any (\${claims.map((c) => c.id)}::bigint[]) returning id
  ),
  orphan as materialized (`,
      },
      {
        file: FILE,
        from: '    where ${unsettled(sql, sql`held.step_id`, sql`held.claim_id`)}\n  ),\n  condemned',
        to: `    where held.claim_id in (select id from taken)
      and \${unsettled(sql, sql\`held.step_id\`, sql\`held.claim_id\`)}
  ),
  condemned`,
      },
    ],
    layers: ['test/interleaving: settle one of two and recover'],
  },
  {
    what: 'recovery looks for outcomes with a snapshot from before its lock',
    changes: [
      {
        file: 'src/recovery/run-cycle.ts',
        from: '      const claims = await takeOrphanClaims(tx, term, CLAIMS_PER_BATCH)\n',
        to: '      await tx`set transaction isolation level repeatable read`\n      const claims = await takeOrphanClaims(tx, term, CLAIMS_PER_BATCH)\n',
      },
      {
        file: FILE,
        from: 'where claims.pod_id = ended.id limit ${limit} for update skip locked',
        to: 'where claims.pod_id = ended.id limit ${limit} for update',
      },
    ],
    layers: ['test/interleaving: settle one of two and recover'],
  },
  {
    what: 'a crash costs no attempt',
    changes: [
      {
        file: FILE,
        from: 'when got_further or undoes then 1 when died then attempt + 1 else attempt end',
        to: 'when got_further or undoes then 1 else attempt end',
      },
    ],
    layers: ['recovery/who-is-dead: a step that two pods died of'],
  },
  {
    what: 'recovery forgets pods that said goodbye with steps in hand',
    changes: [
      {
        file: FILE,
        from: "select id from fleet_q.pods where status in ('dead', 'gone') and ${inTerm(sql, term)} order by id",
        to: "select id from fleet_q.pods where status = 'dead' and ${inTerm(sql, term)} order by id",
      },
    ],
    layers: ['recovery/two-leaders: two leaders that both believe'],
  },
  {
    what: 'a leader that was deposed goes on',
    changes: [
      {
        file: FILE,
        from: '  exists (select from fleet_q.leader_terms where term = ${term} and ended_at is null)`',
        to: '  ${term}::bigint is not null`',
      },
    ],
    layers: ['recovery/two-leaders: a leader whose term is over'],
  },
]
