import { countHeld } from '../../execution/execution.sql.ts'
import { COUNT_MAX, countLanes, countOutcomes, findOldestReady } from '../../step/queue.sql.ts'
import { sumSlots } from '../../pod/pod.sql.ts'
import type { Counter, Histogram } from '../../kernel/meters.ts'
import type { Page } from '../endpoint.ts'
import type { Door } from './door.ts'

interface Sample {
  name: string
  help: string
  type: 'gauge' | 'counter' | 'histogram'
  rows: { suffix?: '_bucket' | '_sum' | '_count'; labels?: Record<string, string>; value: number }[]
}

/** Prometheus' text format, written by us: a hundred lines less than any library for it. */
export const metricsPage = (door: Door): Page => ({
  path: '/metrics',
  role: 'viewer',
  async answer() {
    const own = [...ownSamples(door), ...counted(door)]
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
  const { medianSeconds, p99Seconds, maxSeconds } = door.meters.loopDelay()
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
    {
      name: 'fleet_q_event_loop_delay_seconds',
      help: 'How late timers of this pod ran since the last scrape; measured from the first scrape on.',
      type: 'gauge',
      rows: [
        { labels: { quantile: '0.5' }, value: medianSeconds },
        { labels: { quantile: '0.99' }, value: p99Seconds },
        { labels: { quantile: '1' }, value: maxSeconds },
      ],
    },
    {
      name: 'fleet_q_database_calls',
      help: 'Calls to the database that are under way or wait for a connection, by pool.',
      type: 'gauge',
      rows: Object.entries(vitals.databaseCalls).map(([pool, value]) => ({ labels: { pool }, value })),
    },
    gauge('fleet_q_process_resident_bytes', 'Memory of this process.', process.memoryUsage.rss()),
  ]
}

function counted({ meters }: Door): Sample[] {
  return [
    counter('fleet_q_claimed_total', 'Steps that this pod has claimed.', [], meters.claimed),
    counter(
      'fleet_q_ended_total',
      'Attempts that ended on this pod, by type and how.',
      ['type', 'ended'],
      meters.ended,
    ),
    counter('fleet_q_refused_total', 'Late answers of this pod that were refused.', [], meters.refused),
    counter(
      'fleet_q_recovered_total',
      'Steps of dead pods that this pod has put back or given up.',
      ['fate'],
      meters.recovered,
    ),
    histogram('fleet_q_attempt_seconds', 'How long attempts ran.', 'type', meters.attemptSeconds),
    histogram(
      'fleet_q_exchange_seconds',
      'Round trips that hand in what ended and claim what is next.',
      'kind',
      meters.exchangeSeconds,
    ),
    histogram('fleet_q_http_seconds', 'Answers, by operation.', 'operation', meters.httpSeconds),
    histogram('fleet_q_recovery_seconds', 'Cycles of recovery.', 'kind', meters.recoverySeconds),
  ]
}

const fleetSamples = (door: Door): Promise<Sample[]> =>
  door.database.run(async (sql) => {
    const [lanes, [outcomes], [slots], oldest, held] = await Promise.all([
      countLanes(sql),
      countOutcomes(sql),
      sumSlots(sql),
      findOldestReady(sql),
      countHeld(sql, COUNT_MAX),
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
      {
        name: 'fleet_q_oldest_ready_seconds',
        help: 'How long the first in line of a type has been there, of those that were never tried.',
        type: 'gauge',
        rows: oldest.map(({ type, seconds }) => ({ labels: { type }, value: seconds })),
      },
      {
        name: 'fleet_q_executions_held',
        help: 'Executions that hold no slot, by type: asleep, waiting, parked for somebody (attention) or paused.',
        type: 'gauge',
        rows: held.map(({ type, why, executions }) => ({ labels: { type, why }, value: executions })),
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

/** One without labels is there from the beginning, at zero. */
function counter(name: string, help: string, labels: readonly string[], meter: Counter): Sample {
  const rows = meter.rows().map((row) => ({
    ...(labels.length > 0 && {
      labels: Object.fromEntries(labels.map((label, i) => [label, row.labels[i] ?? ''])),
    }),
    value: row.value,
  }))
  return {
    name,
    help,
    type: 'counter',
    rows: rows.length === 0 && labels.length === 0 ? [{ value: 0 }] : rows,
  }
}

function histogram(name: string, help: string, label: string, meter: Histogram): Sample {
  const rows = meter.rows().flatMap(({ label: value, series: { buckets, sum, count } }) => {
    let below = 0
    const upTo = [...meter.bounds, Number.POSITIVE_INFINITY].map((bound, i) => {
      below += buckets[i] ?? 0
      const le = Number.isFinite(bound) ? String(bound) : '+Inf'
      return { suffix: '_bucket' as const, labels: { [label]: value, le }, value: below }
    })
    const labels = { [label]: value }
    return [
      ...upTo,
      { suffix: '_sum' as const, labels, value: sum },
      { suffix: '_count' as const, labels, value: count },
    ]
  })
  return { name, help, type: 'histogram', rows }
}

const textOf = ({ name, help, type, rows }: Sample) =>
  `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${rows.map(({ suffix = '', labels, value }) => `${name}${suffix}${labelsOf(labels)} ${value}\n`).join('')}`

const labelsOf = (labels: Record<string, string> | undefined) =>
  labels
    ? `{${Object.entries(labels)
        .map(
          ([label, value]) =>
            `${label}="${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`,
        )
        .join(',')}}`
    : ''
