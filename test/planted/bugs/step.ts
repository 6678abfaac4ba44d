import type { Bug } from '../bugs.ts'

/** Submit, settle, cancel, retry, retention. */
export const STEP: Bug[] = [
  {
    what: 'a submit is answered before it is committed',
    changes: [
      {
        file: 'src/step/submit.ts',
        from: '    flush: (wishes) => shared.run((sql) => insert(sql, wishes, callBehind)),',
        to: `    flush: (wishes) => new Promise((answer, refuse) => {
      shared.begin(async (sql) => answer(await insert(sql, wishes, callBehind))).catch(refuse)
    }),`,
      },
    ],
    layers: ['step/a-submit: a submit is answered when it is committed'],
  },
  {
    what: 'idempotency by looking first',
    changes: [
      {
        file: 'src/step/submit.ts',
        from: '      const [mine] = await takeIdempotencyKey(tx, key, wishHash(wishes))\n      if (!mine)',
        to: '      const [before] = await findIdempotencyKey(tx, key)\n      if (!before) await takeIdempotencyKey(tx, key, wishHash(wishes))\n      if (before)',
      },
    ],
    layers: ['race/submit: fifty callers with one idempotency key'],
  },
  {
    what: 'a late answer is accepted: settling does not ask for its claim',
    changes: [
      {
        file: 'src/step/settle.sql.ts',
        from: 'fence as materialized (select id from ended_claim union all select id from standing_claim)',
        to: 'fence as materialized (select unnest(${reports.map((r) => r.claimId)}::bigint[]) as id)',
      },
    ],
    layers: ['race/recovery: an answer under a claim that is gone'],
  },
  {
    what: 'a fence by owner alone: any claim of the pod will do',
    changes: [
      {
        file: 'src/step/settle.sql.ts',
        from: 'fence as materialized (select id from ended_claim union all select id from standing_claim)',
        to: `fence as materialized (
    select unnest(\${reports.map((r) => r.claimId)}::bigint[]) as id
    where exists (select from standing_claim union all select from ended_claim)
      or exists (select from fleet_q.claims where pod_id = \${podId}))`,
      },
    ],
    layers: ['race/recovery: an answer under a claim that is gone'],
  },
  {
    what: 'batches lock in no order',
    changes: [
      {
        file: 'src/step/settle.sql.ts',
        from: '    -- In key order, as a batch of cancels: two that insert the same keys crosswise would deadlock.\n    order by step_id\n    returning step_id, claim_id\n  )`',
        to: '    returning step_id, claim_id\n  )`',
      },
    ],
    layers: ['sql/locks: step.settle that waits'],
  },
  {
    what: 'what a handler writes is committed before its settle',
    changes: [
      {
        file: 'src/worker/transact.ts',
        from: '        const [, refused] = await Promise.all([\n',
        to: '        await tx`commit`\n        const [, refused] = await Promise.all([\n',
      },
    ],
    layers: ['worker/transact', 'recovery/a-frozen: a pod frozen between the writes'],
  },
  {
    what: 'a cancel overwrites an outcome',
    changes: [
      {
        file: 'src/step/cancel.sql.ts',
        from: '    on conflict (step_id) do nothing\n    returning step_id\n  ),\n  off_the_tray',
        to: "    on conflict (step_id) do update set status = 'cancelled', claim_id = null, pod_id = null\n    returning step_id\n  ),\n  off_the_tray",
      },
    ],
    layers: ['race/cancel: cancel against completion'],
  },
  {
    what: 'a step is tried again while a pod has not let go of it',
    changes: [
      {
        file: 'src/step/cancel.sql.ts',
        from: '      and outcomes.step_id not in (select step_id from stopping)\n',
        to: '',
      },
    ],
    layers: ['race/recovery: a redrive against the last answer'],
  },
  {
    what: 'retention throws away what is claimed',
    changes: [
      {
        file: 'src/step/retention.sql.ts',
        from: '        and step_id not in (select unnest(step_ids) from fleet_q.claims)\n',
        to: '',
      },
    ],
    layers: ['sql/locks: keeps what a claim still names'],
  },
]
