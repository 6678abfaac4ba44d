import { FleetError } from '../../errors.ts'
import { findEligiblePods, findLeader } from '../../pod/leader.sql.ts'
import { findPod, listPods, sumSlots } from '../../pod/pod.sql.ts'
import { drain } from '../../step/pause.ts'
import { countLanes, countOutcomes } from '../../step/queue.sql.ts'
import type { Handlers } from '../server.ts'
import type { Door } from './door.ts'

type Mine = 'getLeader' | 'getQueue' | 'getScale' | 'listPods' | 'drainPod'

const PODS_MAX = 1000

export const fleetRoutes = ({ database, say }: Door): Pick<Handlers, Mine> => ({
  getLeader: () =>
    database.run(async (sql) => {
      const [[leader], eligible, [slots]] = await Promise.all([
        findLeader(sql),
        findEligiblePods(sql),
        sumSlots(sql),
      ])
      return {
        body: {
          current_leader: leader?.public_id ?? null,
          leader_birth_ts: leader?.born_at.toISOString() ?? null,
          active_pods: slots?.live_pods ?? 0,
          last_election_check: leader?.proved_at.toISOString() ?? null,
          election_details: {
            eligible_pods: eligible.map((pod) => ({
              pod_id: pod.public_id,
              birth_ts: pod.born_at.toISOString(),
              last_heartbeat_ts: pod.beat_at.toISOString(),
              is_leader: pod.is_leader,
            })),
            ...(leader ? { term: leader.term, reason: leader.began_why } : {}),
          },
        },
      }
    }),

  getQueue: () =>
    database.run(async (sql) => {
      const [lanes, [outcomes], pods, [leader]] = await Promise.all([
        countLanes(sql),
        countOutcomes(sql),
        listPods(sql, true, PODS_MAX),
        findLeader(sql),
      ])
      const pending = lanes.map((lane) => ({ ...lane, steps: lane.ready + lane.later }))
      return {
        body: {
          pending_steps: pending.reduce((total, lane) => total + lane.steps, 0),
          claimed_steps: outcomes?.claimed ?? 0,
          completed_steps: outcomes?.completed ?? 0,
          failed_steps: outcomes?.failed ?? 0,
          active_pods: pods.length,
          current_leader: leader?.public_id ?? null,
          queue_depth_by_priority: sumBy(pending, (lane) => String(lane.priority)),
          steps_by_type: sumBy(pending, (lane) => lane.type),
          pod_capacity: Object.fromEntries(
            pods.map((pod) => [pod.public_id, { current: pod.running, max: pod.capacity }]),
          ),
          estimated: outcomes?.estimated ?? false,
        },
      }
    }),

  getScale: () =>
    database.run(async (sql) => {
      const [lanes, [slots], [outcomes]] = await Promise.all([
        countLanes(sql),
        sumSlots(sql),
        countOutcomes(sql),
      ])
      const pending = lanes.reduce((total, lane) => total + lane.ready, 0)
      const running = outcomes?.claimed ?? 0
      const capacity = slots?.capacity ?? 0
      const perPod = slots?.capacity_max || 1
      return {
        body: {
          pending,
          running,
          capacity,
          live_pods: slots?.live_pods ?? 0,
          wanted_pods: Math.ceil((pending + running) / perPod),
          load_percent:
            capacity === 0 ? (pending > 0 ? 100 : 0) : Math.round(((pending + running) / capacity) * 100),
        },
      }
    }),

  async listPods({ query }) {
    const pods = await database.run((sql) => listPods(sql, query.show === 'living', query.limit))
    return {
      body: {
        pods: pods.map((pod) => ({
          pod_id: pod.public_id,
          name: pod.name,
          status: pod.status,
          is_leader: pod.is_leader,
          leader_eligible: pod.leader_eligible,
          birth_ts: pod.born_at.toISOString(),
          last_heartbeat_ts: pod.beat_at.toISOString(),
          silent_seconds: Math.max(Math.round(pod.silent_seconds * 10) / 10, 0),
          dead_after_seconds: pod.dead_after_seconds,
          drain_wanted: pod.drain_wanted,
          current_capacity: pod.running,
          max_capacity: pod.capacity,
          held_steps: pod.held,
          stuck_handlers: pod.stuck,
          refused_settles: Number(pod.refused),
          types: pod.types,
          version: pod.version,
          ended_at: pod.ended_at?.toISOString() ?? null,
          ended_why: pod.ended_why,
        })),
      },
    }
  },

  async drainPod({ params, body }, caller) {
    const { pod_id } = params
    if (!(await drain(database, caller, pod_id, body.enabled, () => say('drain')))) {
      const [ended] = await database.run((sql) => findPod(sql, pod_id))
      throw ended
        ? new FleetError('wrong_state', `Pod ${pod_id} is ${ended.status}; only a living pod can drain.`)
        : new FleetError('pod_not_found', `There is no pod "${pod_id}". GET /admin/pods lists them.`)
    }
    return {
      body: {
        pod_id,
        draining: body.enabled,
        message: body.enabled
          ? `Pod ${pod_id} takes no further steps; what it holds it finishes.`
          : `Pod ${pod_id} takes steps again.`,
      },
    }
  },
})

/** Not summed in an object: a type may be called toString. */
function sumBy<Row extends { steps: number }>(rows: Row[], nameOf: (row: Row) => string) {
  const sums = new Map<string, number>()
  for (const row of rows) sums.set(nameOf(row), (sums.get(nameOf(row)) ?? 0) + row.steps)
  return Object.fromEntries(sums)
}
