/**
 * Mistakes that queues on Postgres have made, planted into ours one by one: each must be caught. `layers` are tried in
 * their order: words for `npm test`, or the whole name of a suite of its own.
 */
export interface Bug extends Change {
  what: string
  /** Where one change is not enough. */
  also?: Change
  layers: string[]
}

interface Change {
  file: string
  from: string
  to: string
}

const RACES = ['race/', 'outage/a-lost', 'recovery/a-frozen', 'test/interleaving']

export const BUGS: Bug[] = [
  {
    what: 'a late answer is accepted: settling does not ask for its claim',
    file: 'src/step/settle.sql.ts',
    from: 'fence as materialized (select id from ended_claim union all select id from standing_claim)',
    to: 'fence as materialized (select unnest(${reports.map((r) => r.claimId)}::bigint[]) as id)',
    layers: RACES,
  },
  {
    what: 'a fence by owner alone: any claim of the pod will do',
    file: 'src/step/settle.sql.ts',
    from: 'where id = any (${standingClaims(reports, endedClaims)}::bigint[]) and pod_id + 0 = ${podId}\n    order by id\n    for key share\n  ),\n  fence as materialized (select id from ended_claim union all select id from standing_claim)',
    to: 'where pod_id + 0 = ${podId}\n    order by id\n    for key share\n  ),\n  fence as materialized (select unnest(${reports.map((r) => r.claimId)}::bigint[]) as id where exists (select from standing_claim union all select from ended_claim) or exists (select from fleet_q.claims where pod_id = ${podId}))',
    layers: RACES,
  },
  {
    what: 'recovery puts back without looking for outcomes',
    file: 'src/recovery/recovery.sql.ts',
    from: '    where ${unsettled(sql, sql`held.step_id`, sql`held.claim_id`)}\n  ),\n  judged',
    to: '  ),\n  judged',
    layers: ['race/', 'recovery/two-leaders', 'test/interleaving'],
  },
  {
    what: 'recovery looks for outcomes with a snapshot from before its lock',
    file: 'src/recovery/run-cycle.ts',
    from: '      const claims = await takeOrphanClaims(tx, term, CLAIMS_PER_BATCH)\n',
    to: '      await tx`set transaction isolation level repeatable read`\n      const claims = await takeOrphanClaims(tx, term, CLAIMS_PER_BATCH)\n',
    also: {
      file: 'src/recovery/recovery.sql.ts',
      from: 'where claims.pod_id = ended.id limit ${limit} for update skip locked',
      to: 'where claims.pod_id = ended.id limit ${limit} for update',
    },
    layers: ['test/interleaving'],
  },
  {
    what: 'a heartbeat revives a pod that was declared dead',
    file: 'src/pod/pod.sql.ts',
    from: "    where id = ${pod.id} and status in ('live', 'draining')\n    returning id, status, drain_wanted, born_at",
    to: '    where id = ${pod.id}\n    returning id, status, drain_wanted, born_at',
    layers: ['recovery/a-frozen', 'outage/half-open'],
  },
  {
    what: 'a pod that was declared dead may go on claiming',
    file: 'src/step/claim.sql.ts',
    from: "  exists (select from fleet_q.pods where id = ${podId} and status = 'live' and not drain_wanted)\n  and not exists (",
    to: '  not exists (',
    layers: ['race/', 'sql/', 'recovery/a-frozen'],
  },
  {
    what: 'a claim by `in (select ... limit)`',
    file: 'src/step/claim.sql.ts',
    from: 'delete from fleet_q.ready where ctid = any (array(select at from candidate))',
    to: 'delete from fleet_q.ready where ctid in (select head.at from lane cross join lateral (select ready.ctid as at from fleet_q.ready where ready.lane_id = lane.id and ready.position > lane.above and ready.position < lane.below limit ${want.limit} for update skip locked) as head limit ${want.limit})',
    layers: ['sql/claim-limit', 'sql/plans'],
  },
  {
    what: 'notifications alone: nobody looks when none came',
    file: 'src/worker/work.ts',
    from: '    pollTimer = setTimeout(ring, ms)\n    pollTimer.unref()',
    to: '    void ms',
    also: {
      file: 'src/fleet/start-pod.ts',
      from: 'if (mayHaveWork(beat.last_position, beat) || beat.paused) worker.ring()',
      to: 'mayHaveWork(beat.last_position, beat)',
    },
    layers: ['sql/from-sql', 'pod/', 'outage/', 'recovery/'],
  },
  {
    what: 'a submit is answered before it is committed',
    file: 'src/step/submit.ts',
    from: '    flush: (wishes) => shared.run((sql) => insert(sql, wishes, callBehind)),',
    to: '    flush: (wishes) => shared.begin(async (sql) => {\n      const ids = await insert(sql, wishes)\n      return ids\n    }).then((ids) => ids).catch(() => wishes.map(() => "step_20260101000000_aaaaaaaaaaaaa")),',
    layers: ['outage/', 'door/'],
  },
  {
    what: 'idempotency by looking first',
    file: 'src/step/submit.ts',
    from: '      const [mine] = await takeIdempotencyKey(tx, key, wishHash(wishes))\n      if (!mine)',
    to: '      const [before] = await findIdempotencyKey(tx, key)\n      if (!before) await takeIdempotencyKey(tx, key, wishHash(wishes))\n      if (before)',
    layers: ['race/submit', 'test/interleaving'],
  },
  {
    what: 'marks that pass late commits, and no sweep',
    file: 'src/worker/work.ts',
    from: '    marks.forget()\n    sweptAt = performance.now()',
    to: '    sweptAt = performance.now()',
    layers: ['sql/trays', 'race/', 'sql/', 'step/', 'worker/'],
  },
  {
    what: 'a crash costs no attempt',
    file: 'src/recovery/recovery.sql.ts',
    from: '      case when died then attempt + 1 else attempt end\n    from judged where reason is null and crashes < 2',
    to: '      attempt\n    from judged where reason is null and crashes < 2',
    layers: ['recovery/a-killed', 'recovery/a-deadly', 'test/interleaving'],
  },
  {
    what: "the clock of the pod's machine decides who is alive",
    file: 'src/pod/pod.sql.ts',
    from: '      beat_at = fleet_q.clock(), running',
    to: '      beat_at = ${new Date().toISOString()}::timestamptz, running',
    layers: ['recovery/who', 'recovery/', 'pod/'],
  },
  {
    what: 'a cancel overwrites an outcome',
    file: 'src/step/cancel.sql.ts',
    from: '    on conflict (step_id) do nothing\n    returning step_id\n  ),\n  off_the_tray',
    to: "    on conflict (step_id) do update set status = 'cancelled', claim_id = null, pod_id = null\n    returning step_id\n  ),\n  off_the_tray",
    layers: ['race/cancel', 'test/interleaving'],
  },
  {
    what: 'recovery forgets pods that said goodbye with steps in hand',
    file: 'src/recovery/recovery.sql.ts',
    from: "select id from fleet_q.pods where status in ('dead', 'gone') and ${inTerm(sql, term)} order by id",
    to: "select id from fleet_q.pods where status = 'dead' and ${inTerm(sql, term)} order by id",
    layers: ['recovery/'],
  },
  {
    what: 'batches lock in no order',
    file: 'src/step/settle.sql.ts',
    from: '    -- In key order, as a batch of cancels: two that insert the same keys crosswise would deadlock.\n    order by step_id\n    returning step_id, claim_id\n  )`',
    to: '    order by random()\n    returning step_id, claim_id\n  )`',
    layers: ['sql/locks', 'race/'],
  },
  {
    what: 'what a handler writes is committed before its settle',
    file: 'src/worker/transact.ts',
    from: '        const refused = await settle(tx, podId, [{ ...report, mayStand: true }], [])\n        if (refused.length > 0) throw new RolledBack()',
    to: '        await tx`commit`\n        const refused = await settle(tx, podId, [{ ...report, mayStand: true }], [])\n        if (refused.length > 0) throw new RolledBack()',
    layers: ['recovery/a-ledger', 'outage/cut', 'worker/'],
  },
  {
    what: 'retention throws away what is claimed',
    file: 'src/step/retention.sql.ts',
    from: '        and step_id not in (select unnest(step_ids) from fleet_q.claims)))',
    to: '))',
    layers: ['race/', 'step/', 'sql/', 'test/interleaving'],
  },
  {
    what: 'a step is tried again while a pod has not let go of it',
    file: 'src/step/cancel.sql.ts',
    from: '      and outcomes.step_id not in (select step_id from stopping)\n',
    to: '',
    layers: ['race/cancel', 'race/', 'test/interleaving'],
  },
  {
    what: 'limits are counted without their lock',
    file: 'src/step/claim.sql.ts',
    from: '  order by type for update skip locked`',
    to: '  order by type`',
    layers: ['step/limits', 'race/'],
  },
  {
    what: 'a pause is confirmed while claims are under way',
    file: 'src/step/pause.ts',
    from: '  await claimsUnderWay(database)\n  return row',
    to: '  return row',
    layers: ['race/pause', 'test/interleaving'],
  },
  {
    what: 'a leader that was deposed goes on',
    file: 'src/recovery/recovery.sql.ts',
    from: '  exists (select from fleet_q.leader_terms where term = ${term} and ended_at is null)`',
    to: '  ${term}::bigint is not null`',
    layers: ['recovery/two-leaders', 'race/recovery'],
  },
]
