import type { Bug } from '../bugs.ts'

/** Claims, their marks, and what may hold them up. */
export const CLAIM: Bug[] = [
  {
    what: 'a claim by `in (select ... limit)`',
    changes: [
      {
        file: 'src/step/claim.sql.ts',
        from: 'delete from fleet_q.ready where ctid = any (array(select at from candidate))',
        to: `delete from fleet_q.ready where ctid in (
      select head.at from lane cross join lateral (
        select ready.ctid as at from fleet_q.ready
        where ready.lane_id = lane.id and ready.position > lane.above and ready.position < lane.below
        limit \${want.limit} for update skip locked
      ) as head limit \${want.limit})`,
      },
    ],
    layers: ['sql/claim-limit: with any mixture', 'sql/claim-limit: with any two'],
  },
  {
    what: 'a pod that was declared dead may go on claiming',
    changes: [
      {
        file: 'src/step/claim.sql.ts',
        from: "  exists (select from fleet_q.pods where id = ${podId} and status = 'live' and not drain_wanted)\n  and not exists (",
        to: '  not exists (',
      },
    ],
    layers: ['sql/claim-limit: a pod that is dead'],
  },
  {
    what: 'notifications alone: nobody looks when none came',
    changes: [
      {
        file: 'src/worker/work.ts',
        from: '    pollTimer = setTimeout(ring, ms)\n    pollTimer.unref()',
        to: '    void ms',
      },
      {
        file: 'src/fleet/start-pod.ts',
        from: 'if (mayHaveWork(beat.last_position, beat) || beat.paused) worker.ring()',
        to: 'mayHaveWork(beat.last_position, beat)',
      },
    ],
    layers: ['worker/unannounced: steps that nobody has announced'],
  },
  {
    what: 'marks that pass late commits, and no sweep',
    changes: [
      {
        file: 'src/worker/work.ts',
        from: '    marks.forget()\n    sweptAt = performance.now()',
        to: '    sweptAt = performance.now()',
      },
    ],
    layers: ['worker/unannounced: a step whose submit commits late'],
  },
  {
    what: 'limits are counted without their lock',
    changes: [
      {
        file: 'src/step/claim.sql.ts',
        from: '  order by type for update skip locked`',
        to: '  order by type`',
      },
    ],
    layers: ['step/limits: three pods never run more'],
  },
  {
    what: 'a pause is confirmed while claims are under way',
    changes: [
      {
        file: 'src/step/pause.ts',
        from: '  await claimsUnderWay(database)\n  return row',
        to: '  return row',
      },
    ],
    layers: ['race/pause: a pause waits for a claim'],
  },
]
