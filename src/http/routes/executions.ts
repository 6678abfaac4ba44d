import { describeExecution, keyOfExecution, pageOfExecutions } from '../../execution/read-execution.ts'
import { countAsleep, readClock } from '../../execution/execution.sql.ts'
import { readHistory } from '../../execution/read-history.ts'
import { rerunExecution } from '../../execution/rerun-execution.ts'
import { sendBack } from '../../execution/send-back.ts'
import { offerEvent } from '../../execution/send-event.ts'
import { startExecution, type StartParts } from '../../execution/start-execution.ts'
import { FleetError } from '../../errors.ts'
import { cancelStep } from '../../step/cancel.ts'
import { COUNT_MAX, countLanes, countOutcomes } from '../../step/queue.sql.ts'
import type { Handlers } from '../server.ts'
import { checkArguments } from './check-arguments.ts'
import type { Door } from './door.ts'

type Mine =
  | 'listExecutions'
  | 'startExecution'
  | 'getExecution'
  | 'getHistory'
  | 'cancelExecution'
  | 'retryExecution'
  | 'restartExecution'
  | 'rerunExecution'
  | 'waitForExecution'
  | 'getStats'
  | 'sendEvent'

const WAIT_SECONDS_MAX = 30

export const executionRoutes = (door: Door): Pick<Handlers, Mine> => {
  const { database } = door
  const onReady = () => {
    door.onReady()
    door.say('ready')
  }
  const onCancelled = () => {
    void door.onCancelled()
    door.say('cancel')
    // An execution may have waited for it.
    onReady()
  }
  const parts: StartParts = {
    database,
    submitter: door.submitter,
    check: (wish) => checkArguments(door.registry, [wish], () => ['payload']),
  }
  return {
    async listExecutions({ query }) {
      const { executions, next } = await pageOfExecutions(
        database,
        {
          status: query.status ?? null,
          type: query.task_name ?? query.taskName ?? null,
          tag: query.tag ?? null,
          key: query.key ?? null,
          attention: query.attention === 'true',
        },
        query,
      )
      return { body: executions, ...(next === null ? {} : { nextCursor: next }) }
    },

    async startExecution({ body }) {
      const { executionId, isNew } = await startExecution(parts, body)
      return { status: isNew ? 201 : 200, body: await describeExecution(database, executionId) }
    },

    getExecution: async ({ params }) => ({ body: await describeExecution(database, params.execution_id) }),

    async cancelExecution({ params }, caller) {
      const { execution_id } = params
      const { step_id } = await describeExecution(database, execution_id)
      await cancelStep(database, caller, step_id, 'cancelled by an operator', onCancelled)
      const minimal = /\breturn=minimal\b/.test(caller.header('prefer') ?? '')
      const { completed_at } = await describeExecution(database, execution_id)
      // It is being undone, and has its outcome after that.
      const [clock] = completed_at === null ? await database.run(readClock) : []
      const cancelled_at = completed_at ?? (clock?.now ?? new Date()).toISOString()
      return {
        ...(minimal ? { status: 204 as const } : {}),
        body: { execution_id, status: 'cancelled', cancelled_at },
      }
    },

    getHistory: async ({ params }) => ({ body: await readHistory(database, params.execution_id) }),

    async retryExecution({ params: { execution_id }, body }, caller) {
      const { from, number, reason = null, drop_events: withoutEvents = [] } = body
      const how = { reason, withoutEvents, onReady, onCancelled }
      await sendBack(
        database,
        caller,
        execution_id,
        from === undefined ? 'failure' : { name: from, number },
        how,
      )
      return { body: await describeExecution(database, execution_id) }
    },

    async restartExecution({ params: { execution_id }, body }, caller) {
      const { reason = null, drop_events: withoutEvents = [] } = body
      await sendBack(database, caller, execution_id, 'top', { reason, withoutEvents, onReady, onCancelled })
      return { body: await describeExecution(database, execution_id) }
    },

    async rerunExecution({ params, body }) {
      const executionId = await rerunExecution(parts, params.execution_id, body)
      return { body: await describeExecution(database, executionId) }
    },

    async waitForExecution({ params, query }, caller) {
      const { execution_id } = params
      const seconds = Math.min(query.timeout_secs ?? query.timeoutSecs ?? WAIT_SECONDS_MAX, WAIT_SECONDS_MAX)
      const { waits } = door
      const now = await describeExecution(database, execution_id)
      if (now.completed_at !== null) return { body: now }
      const { id } = await database.run((sql) => keyOfExecution(sql, execution_id))
      const how = await waits.wait(id, seconds * 1000, (act) => caller.onGone(act))
      if (how === 'gone') return { body: now }
      const then = await waits.inTurn(() => describeExecution(database, execution_id))
      if (then.completed_at !== null) return { body: then }
      throw new FleetError('timeout', `execution '${execution_id}' did not complete within ${seconds}s`)
    },

    async getStats() {
      const [lanes, [outcomes], [sleeping]] = await database.run((sql) =>
        Promise.all([countLanes(sql), countOutcomes(sql), countAsleep(sql, COUNT_MAX)]),
      )
      const pending = lanes.reduce((total, lane) => total + lane.ready + lane.later, 0)
      const asleep = sleeping?.asleep ?? 0
      const { completed = 0, failed = 0, claimed = 0, skipped = 0, estimated = false } = outcomes ?? {}
      const cancelled = (outcomes?.cancelled ?? 0) + skipped
      const scheduled = Math.max(pending - asleep, 0)
      const running = claimed + asleep
      const total = scheduled + running + completed + failed + cancelled
      return { body: { scheduled, running, completed, failed, cancelled, total, estimated } }
    },

    async sendEvent({ params, body }) {
      const { execution_id, event_name } = params
      const delivered = await offerEvent(database, execution_id, event_name, body)
      if (delivered) onReady()
      return { body: { execution_id, event_name, delivered } }
    },
  }
}
