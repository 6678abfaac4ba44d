import type { Bug } from '../bugs.ts'

const FILE = 'src/pod/pod.sql.ts'
const BEAT =
  "    where id = ${pod.id} and status in ('live', 'draining')\n    returning id, status, drain_wanted, born_at"

/** Who is alive. */
export const POD: Bug[] = [
  {
    what: 'a heartbeat revives a pod that was declared dead',
    changes: [
      {
        file: FILE,
        from: BEAT,
        to: '    where id = ${pod.id}\n    returning id, status, drain_wanted, born_at',
      },
    ],
    layers: ['recovery/who-is-dead: a pod that was declared dead never beats again'],
  },
  {
    what: 'a heartbeat counts for the pod that bore the name before',
    changes: [
      {
        file: FILE,
        from: BEAT,
        to: `    where name = (select name from fleet_q.pods as self where self.id = \${pod.id}) and status in ('live', 'draining')
    returning id, status, drain_wanted, born_at`,
      },
    ],
    layers: ['recovery/who-is-dead: a pod that was started again'],
  },
  {
    what: "the clock of the pod's machine decides who is alive",
    changes: [
      {
        file: FILE,
        from: '      beat_at = fleet_q.clock(), running',
        to: '      beat_at = ${new Date().toISOString()}::timestamptz, running',
      },
    ],
    layers: ['recovery/who-is-dead: a beat is at the time of the database'],
  },
]
