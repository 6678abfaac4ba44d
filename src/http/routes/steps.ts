import { FleetError } from '../../errors.ts'
import { retryParked } from '../../execution/retry-parked.ts'
import { cancelByFilter, redriveByFilter } from '../../step/bulk.ts'
import { cancelStep } from '../../step/cancel.ts'
import type { BulkFilter } from '../../step/queue.sql.ts'
import { pageOfLogs, pageOfSteps } from '../../step/read.ts'
import { redriveStep } from '../../step/redrive.ts'
import type { Handlers } from '../server.ts'
import type { Door } from './door.ts'

type Mine = 'listSteps' | 'listLogs' | 'cancelStep' | 'retryStep' | 'cancelSteps' | 'retrySteps'

export const stepRoutes = (door: Door): Pick<Handlers, Mine> => {
  const { database } = door
  const onCancelled = () => {
    void door.onCancelled()
    door.say('cancel')
    // An execution may have waited for it.
    onReady()
  }
  const onReady = () => {
    door.onReady()
    door.say('ready')
  }

  return {
    listSteps: async ({ query }) => ({
      body: await pageOfSteps(
        database,
        {
          status: query.status ?? null,
          type: query.type ?? null,
          tag: query.tag ?? null,
          pod: query.pod ?? null,
          key: query.key ?? null,
          attention: query.attention === 'true',
          olderThanSeconds: query.older_than_seconds ?? null,
          newerThanSeconds: query.newer_than_seconds ?? null,
        },
        query,
      ),
    }),

    listLogs: async ({ params, query }) => ({ body: await pageOfLogs(database, params.step_id, query) }),

    cancelStep: async ({ params, body }, caller) => ({
      body: await cancelStep(
        database,
        caller,
        params.step_id,
        body.reason ?? 'cancelled by an operator',
        onCancelled,
      ),
    }),

    retryStep: async ({ params }, caller) => ({
      body: await redriveStep(database, caller, params.step_id, onReady),
    }),

    cancelSteps: async ({ body }, caller) => ({
      body: await cancelByFilter(
        database,
        caller,
        bulkFilter(body.filter, LIVE, 'cancelled'),
        body,
        onCancelled,
      ),
    }),

    retrySteps: async ({ body }, caller) => ({
      body: await (body.filter.attention ? retryParked : redriveByFilter)(
        database,
        caller,
        bulkFilter(body.filter, ENDED, 'tried again'),
        body,
        onReady,
      ),
    }),
  }
}

const LIVE = ['pending', 'claimed'] as const
const ENDED = ['failed', 'cancelled', 'skipped'] as const

interface Filter {
  status?: string | undefined
  type?: string | undefined
  tag?: string | undefined
  pod?: string | undefined
  key?: string | undefined
  older_than_seconds?: number | undefined
  newer_than_seconds?: number | undefined
  attention?: true | undefined
}

function bulkFilter(filter: Filter, allowed: readonly string[], verb: string): BulkFilter {
  if (filter.status !== undefined && !allowed.includes(filter.status))
    throw new FleetError('invalid_input', `Steps that are ${filter.status} cannot be ${verb}.`, {
      issues: [{ at: 'filter.status', message: `must be one of ${allowed.join(', ')}` }],
    })
  if (filter.attention && filter.status !== undefined && allowed !== LIVE)
    throw new FleetError(
      'invalid_input',
      'What is parked has not ended: ask for attention or for a status.',
      {
        issues: [{ at: 'filter.status', message: 'does not go with attention' }],
      },
    )
  return {
    // Without a word of the caller, only what failed is tried again: a cancelled step was not wanted.
    status: filter.status === undefined ? (allowed === LIVE ? [...LIVE] : ['failed']) : [filter.status],
    type: filter.type ?? null,
    tag: filter.tag ?? null,
    pod: filter.pod ?? null,
    key: filter.key ?? null,
    olderThanSeconds: filter.older_than_seconds ?? null,
    newerThanSeconds: filter.newer_than_seconds ?? null,
    attention: filter.attention ?? false,
  }
}
