import { pauseExecutions, resumeExecutions } from '../../execution/pause-execution.ts'
import { listExecutionPauses } from '../../execution/pause.sql.ts'
import { pause, resume } from '../../step/pause.ts'
import { listPauses } from '../../step/queue.sql.ts'
import type { Caller } from '../endpoint.ts'
import type { Handlers } from '../server.ts'
import type { Door } from './door.ts'

type Mine = 'pause' | 'resume' | 'listPauses' | 'pauseExecution' | 'resumeExecution'

interface Named {
  type?: string | undefined
  key?: string | undefined
  execution?: string | undefined
}
type Wish = Named & { until?: string | undefined; reason?: string | undefined }

export const pauseRoutes = (door: Door): Pick<Handlers, Mine> => {
  const { database } = door
  const onPaused = () => {
    door.say('cancel')
    return door.onCancelled()
  }
  const onReady = () => {
    door.onReady()
    door.say('ready')
  }

  async function begin(caller: Caller, { execution, ...wish }: Wish) {
    const { type = null, key = null } = wish
    const how = { until: wish.until ?? null, reason: wish.reason ?? null }
    const row =
      execution === undefined
        ? await pause(database, caller, { type, key, ...how })
        : await pauseExecutions(database, caller, { execution, ...how }, onPaused)
    const until = row?.until?.toISOString() ?? null
    const isMany = execution?.includes('*') ?? false
    const when = until ? `until ${until}` : `until ${isMany ? 'they are' : 'it is'} resumed`
    const message =
      execution === undefined
        ? `No step of ${nameOf(wish)} starts ${when}; what runs goes on.`
        : `${capital(nameOf({ execution }))} ${isMany ? 'do' : 'does'} not go on ${when}; what runs stops at its next checkpoint.`
    return { type, key, execution: execution ?? null, paused: true, until, message }
  }

  async function end(caller: Caller, { execution, ...wish }: Wish) {
    const { type = null, key = null } = wish
    const ended =
      execution === undefined
        ? await resume(database, caller, { type, key })
        : await resumeExecutions(database, caller, { execution, reason: wish.reason ?? null }, onReady)
    if (ended) onReady()
    const what = nameOf({ ...wish, execution })
    const message = ended
      ? execution === undefined
        ? `Steps of ${what} start again.`
        : `${capital(what)} may go on again.`
      : `There was no pause of exactly ${what}; GET /admin/pauses lists those in force.`
    return { type, key, execution: execution ?? null, paused: false, until: null, message }
  }

  return {
    pause: async ({ body }, caller) => ({ body: await begin(caller, body) }),

    resume: async ({ body }, caller) => ({ body: await end(caller, body) }),

    pauseExecution: async ({ params, body }, caller) => ({
      body: await begin(caller, { ...body, execution: params.execution_id }),
    }),

    resumeExecution: async ({ params, body }, caller) => ({
      body: await end(caller, { ...body, execution: params.execution_id }),
    }),

    async listPauses() {
      const [ofSteps, ofExecutions] = await database.run((sql) =>
        Promise.all([listPauses(sql), listExecutionPauses(sql)]),
      )
      const rows = [
        ...ofSteps.map((row) => ({ ...row, execution: null })),
        ...ofExecutions.map((row) => ({ type: null, key: null, ...row })),
      ]
      return {
        body: {
          pauses: rows.map(({ type, key, execution, paused_at, until, reason }) => ({
            type,
            key,
            execution,
            paused_at: paused_at.toISOString(),
            until: until?.toISOString() ?? null,
            reason,
          })),
        },
      }
    },
  }
}

const nameOf = ({ type, key, execution }: Named) =>
  execution === undefined
    ? [type && `type "${type}"`, key && `key "${key}"`].filter(Boolean).join(' and ')
    : execution.includes('*')
      ? `executions "${execution}"`
      : `execution "${execution}"`

const capital = (sentence: string) => sentence.charAt(0).toUpperCase() + sentence.slice(1)
