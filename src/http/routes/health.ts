import type { Page } from '../endpoint.ts'
import type { Handlers } from '../server.ts'
import type { Door } from './door.ts'

/** Beats that may be missing before the database is said to be away. */
const BEATS_MISSED = 2.5

/** Neither touches the database: what is known comes from the heart, which asks it all the time. */
export const healthRoutes = (door: Door): Pick<Handlers, 'getHealth' | 'getReadiness'> => ({
  async getHealth() {
    const vitals = door.vitals()
    const ages = Object.entries({ heartbeat: vitals.beatAgeMs, ...vitals.loopAgesMs })
    return {
      status: vitals.healthy ? 200 : 503,
      body: {
        pod_id: door.publicId,
        status: vitals.healthy ? 'healthy' : 'unhealthy',
        uptime_seconds: Math.round(vitals.uptimeSeconds * 10) / 10,
        current_capacity: vitals.running,
        max_capacity: door.capacity,
        is_leader: door.term() !== undefined,
        version: door.version,
        database: isAway(vitals) ? 'away' : 'ok',
        loops: Object.fromEntries(
          ages.map(([name, ms]) => [name, { age_seconds: ms === undefined ? null : Math.round(ms) / 1000 }]),
        ),
        draining: vitals.phase === 'draining',
        stuck_handlers: vitals.stuck,
      },
    }
  },

  async getReadiness() {
    const vitals = door.vitals()
    const status = vitals.phase === 'ready' ? (isAway(vitals) ? 'database_away' : 'ready') : vitals.phase
    return {
      status: status === 'ready' ? 200 : 503,
      body: {
        status: status === 'stopped' ? 'draining' : status,
        pod_id: door.publicId,
        message: MESSAGES[status],
      },
    }
  },
})

const MESSAGES = {
  ready: 'This pod takes requests.',
  starting: 'This pod is starting.',
  draining: 'This pod is draining: send requests to another one.',
  stopped: 'This pod has stopped.',
  database_away: 'The database does not answer; this pod waits for it.',
}

const isAway = (vitals: ReturnType<Door['vitals']>) =>
  (vitals.beatAgeMs ?? Number.POSITIVE_INFINITY) > vitals.heartbeatMs * BEATS_MISSED

/** Liveness as the executions door has it: a word. */
export const alivePage: Page = {
  path: '/healthz',
  role: 'public',
  answer: () => new Response('ok', { headers: { 'content-type': 'text/plain; charset=utf-8' } }),
}
