import { countLanes, countOutcomes } from '../../step/queue.sql.ts'
import { sumSlots } from '../../pod/pod.sql.ts'
import type { Page } from '../endpoint.ts'
import type { Door } from './door.ts'

interface Sample {
  name: string
  help: string
  type: 'gauge' | 'counter'
  rows: { labels?: Record<string, string>; value: number }[]
}

/** Prometheus' text format, written by us: a hundred lines less than any library for it. */
export const metricsPage = (door: Door): Page => ({
  path: '/metrics',
  role: 'viewer',
  async answer() {
    const own = ownSamples(door)
    // While the database is away a scrape still tells of the pod itself.
    const shared = await fleetSamples(door).catch(() => [])
    return new Response([...own, ...shared].map(textOf).join(''), {
      headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' },
    })
  },
})

function ownSamples(door: Door): Sample[] {
  const vitals = door.vitals()
  const ages = Object.entries({ heartbeat: vitals.beatAgeMs, ...vitals.loopAgesMs })
  return [
    gauge('fleet_q_pod_running', 'Handlers that run on this pod.', vitals.running),
    gauge('fleet_q_pod_capacity', 'Handlers that may run on this pod at once.', door.capacity),
    gauge('fleet_q_pod_stuck', 'Handlers of this pod that ignored their abort.', vitals.stuck),
    gauge('fleet_q_pod_waiting', 'Requests that wait here for the outcome of a step.', door.waits.size),
    gauge('fleet_q_pod_leading', '1 while this pod leads.', door.term() === undefined ? 0 : 1),
    gauge('fleet_q_pod_uptime_seconds', 'Since this pod was born.', vitals.uptimeSeconds),
    {
      name: 'fleet_q_loop_age_seconds',
      help: 'Since the last round of a loop that ended well.',
      type: 'gauge',
      rows: ages.flatMap(([loop, ms]) => (ms === undefined ? [] : [{ labels: { loop }, value: ms / 1000 }])),
    },
    gauge('fleet_q_process_resident_bytes', 'Memory of this process.', process.memoryUsage.rss()),
  ]
}

const fleetSamples = (door: Door): Promise<Sample[]> =>
  door.database.run(async (sql) => {
    const [lanes, [outcomes], [slots]] = await Promise.all([
      countLanes(sql),
      countOutcomes(sql),
      sumSlots(sql),
    ])
    const types = new Map<string, { ready: number; later: number }>()
    for (const lane of lanes) {
      const sum = types.get(lane.type) ?? { ready: 0, later: 0 }
      types.set(lane.type, { ready: sum.ready + lane.ready, later: sum.later + lane.later })
    }
    return [
      {
        name: 'fleet_q_steps_waiting',
        help: 'Steps that wait, by type and tray.',
        type: 'gauge',
        rows: [...types].flatMap(([type, { ready, later }]) => [
          { labels: { type, tray: 'ready' }, value: ready },
          { labels: { type, tray: 'later' }, value: later },
        ]),
      },
      gauge('fleet_q_steps_claimed', 'Steps that are claimed and not settled.', outcomes?.claimed ?? 0),
      {
        name: 'fleet_q_steps_settled',
        help: 'Steps with an outcome that are kept, by status; an estimate above 100,000.',
        type: 'gauge',
        rows: (['completed', 'failed', 'cancelled', 'skipped'] as const).map((status) => ({
          labels: { status },
          value: outcomes?.[status] ?? 0,
        })),
      },
      gauge('fleet_q_pods_live', 'Pods that are alive and take steps.', slots?.live_pods ?? 0),
      gauge('fleet_q_slots', 'Slots of all live pods.', slots?.capacity ?? 0),
    ]
  })

const gauge = (name: string, help: string, value: number): Sample => ({
  name,
  help,
  type: 'gauge',
  rows: [{ value }],
})

const textOf = ({ name, help, type, rows }: Sample) =>
  `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${rows.map(({ labels, value }) => `${name}${labelsOf(labels)} ${value}\n`).join('')}`

const labelsOf = (labels: Record<string, string> | undefined) =>
  labels
    ? `{${Object.entries(labels)
        .map(
          ([label, value]) =>
            `${label}="${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`,
        )
        .join(',')}}`
    : ''
