import { z } from 'zod'
import { count, instant, queryNumber, seconds, text } from '../kernel/contract.ts'

export const podPath = z.strictObject({ pod_id: text(200) })

const loops = z.record(
  z.string(),
  z.strictObject({
    age_seconds: seconds.nullable().describe('since the last round that ended well; null before the first'),
  }),
)

export const Health = z
  .strictObject({
    pod_id: z.string(),
    status: z.enum(['healthy', 'unhealthy']),
    uptime_seconds: seconds,
    current_capacity: count.describe('steps that run here now'),
    max_capacity: count.describe('steps that may run here at once: 80 % of the parallelism'),
    is_leader: z.boolean(),
    version: z.string(),
    database: z.enum(['ok', 'away']),
    loops,
    draining: z.boolean(),
    stuck_handlers: count.describe('handlers that ignored their time limit and still run'),
  })
  .meta({ id: 'Health' })

export const Readiness = z
  .strictObject({
    status: z.enum(['ready', 'starting', 'draining', 'database_away']),
    pod_id: z.string(),
    message: z.string(),
  })
  .meta({ id: 'Readiness' })

export const Leader = z
  .strictObject({
    current_leader: z.string().nullable(),
    leader_birth_ts: instant.nullable(),
    active_pods: count,
    last_election_check: instant.nullable(),
    election_details: z.strictObject({
      eligible_pods: z.array(
        z.strictObject({
          pod_id: z.string(),
          birth_ts: instant,
          last_heartbeat_ts: instant,
          is_leader: z.boolean(),
        }),
      ),
      term: z.string().optional().describe('grows with each accession'),
      reason: z.string().optional().describe('why this pod leads'),
    }),
  })
  .meta({ id: 'Leader' })

const capacity = z.strictObject({ current: count, max: count })

export const Queue = z
  .strictObject({
    pending_steps: count,
    claimed_steps: count,
    completed_steps: count,
    failed_steps: count,
    active_pods: count,
    current_leader: z.string().nullable(),
    queue_depth_by_priority: z.record(z.string(), count),
    steps_by_type: z.record(z.string(), count),
    pod_capacity: z.record(z.string(), capacity),
    estimated: z.boolean().describe('true when a count above 10,000 is an estimate'),
  })
  .meta({ id: 'Queue' })

export const Pod = z
  .strictObject({
    pod_id: z.string(),
    name: z.string(),
    status: z.enum(['live', 'draining', 'dead', 'gone']),
    is_leader: z.boolean(),
    leader_eligible: z.boolean(),
    birth_ts: instant,
    last_heartbeat_ts: instant,
    silent_seconds: seconds.describe('since its last heartbeat'),
    dead_after_seconds: seconds.describe('how long it may be silent'),
    drain_wanted: z.boolean(),
    current_capacity: count.describe('steps that run there now'),
    max_capacity: count,
    held_steps: count.describe('steps that it has claimed: those that run and a few that are next'),
    stuck_handlers: count.describe('handlers that ignored their time limit and still run'),
    refused_settles: count.describe('late answers that changed nothing, because the claim was gone'),
    types: z.array(z.string()).describe('types that it has a handler for'),
    version: z.string(),
    ended_at: instant.nullable(),
    ended_why: z.string().nullable(),
  })
  .meta({ id: 'Pod' })

export const PodsQuery = z.strictObject({
  show: z.enum(['living', 'all']).default('living').describe('all: those that ended as well'),
  limit: queryNumber(z.int().min(1).max(1000)).default(1000).describe('at most so many'),
})

export const PodList = z.strictObject({ pods: z.array(Pod) }).meta({ id: 'PodList' })

export const DrainRequest = z
  .strictObject({ enabled: z.boolean().default(true).describe('false takes the wish back') })
  .meta({ id: 'DrainRequest' })

export const DrainAnswer = z
  .strictObject({ pod_id: z.string(), draining: z.boolean(), message: z.string() })
  .meta({ id: 'DrainAnswer' })

export const Scale = z
  .strictObject({
    pending: count,
    running: count,
    capacity: count.describe('slots of all live pods'),
    live_pods: count,
    wanted_pods: count,
    load_percent: z.number().min(0).describe('running and pending, as a share of capacity'),
  })
  .meta({ id: 'Scale' })
