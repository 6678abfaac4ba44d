import { stepIdOf } from '../../execution/read-execution.ts'
import { didYouMean } from '../../kernel/words.ts'
import { findTypesHandled } from '../../pod/pod.sql.ts'
import { describeStep } from '../../step/read.ts'
import { getStep } from '../../step/read.ts'
import { idempotencyKey, parsePublicId } from '../../step/step.ts'
import { why } from '../../step/why.ts'
import type { Handlers } from '../server.ts'
import { checkArguments } from './check-arguments.ts'
import type { Door } from './door.ts'

type Mine = 'submitStep' | 'submitBatch' | 'getStatus' | 'getIdempotencyKey' | 'why'

export const submitRoutes = (door: Door): Pick<Handlers, Mine> => {
  const warnings = typeWatch(door)
  return {
    async submitStep({ body }) {
      checkArguments(door.registry, [body], () => ['args'])
      const { stepIds, replayed } = await door.submitter.submit([body])
      const stepId = stepIds[0] ?? ''
      return {
        body: {
          step_id: stepId,
          status: 'submitted',
          message: `Step ${stepId} submitted successfully`,
          ...(await warnings([body.type])),
        },
        replayed,
      }
    },

    async submitBatch({ body }) {
      checkArguments(door.registry, body.steps, (i) => ['steps', i, 'args'])
      const { stepIds, replayed } = await door.submitter.submit(body.steps, body.idempotency_key)
      return {
        body: {
          step_ids: stepIds,
          count: stepIds.length,
          status: 'submitted',
          message: `${stepIds.length} steps submitted successfully`,
          ...(await warnings(body.steps.map((step) => step.type))),
        },
        replayed,
      }
    },

    async getStatus({ params, query }, caller) {
      const { step_id } = params
      const status = await describeStep(door.database, step_id)
      const key = query.wait_seconds > 0 && status.tray !== 'settled' && parsePublicId(step_id)
      if (!key) return { body: status }
      const { waits } = door
      const how = await waits.wait(key.id, query.wait_seconds * 1000, (act) => caller.onGone(act))
      if (how === 'gone') return { body: status }
      return { body: await waits.inTurn(() => describeStep(door.database, step_id)) }
    },

    async getIdempotencyKey({ params }) {
      await door.database.run((sql) => getStep(sql, params.step_id))
      return { body: { step_id: params.step_id, idempotency_key: idempotencyKey(params.step_id) } }
    },

    why: async ({ params }) => {
      const stepId = await stepIdOf(door.database, params.step_id)
      return { body: await why(door.database, stepId) }
    },
  }
}

const TYPES_KNOWN_FOR_MS = 5000

/** Tells a submitter that no living pod handles a type; asks the database once in a while, not at each submit. */
function typeWatch({ database, registry }: Door) {
  let known = new Set<string>()
  let askedAt = Number.NEGATIVE_INFINITY
  return async (types: string[]): Promise<{ warnings?: string[] }> => {
    const strange = [...new Set(types)].filter((type) => !registry.has(type))
    if (strange.length === 0) return {}
    if (performance.now() - askedAt > TYPES_KNOWN_FOR_MS) {
      askedAt = performance.now()
      const rows = await database.run(findTypesHandled).catch(() => undefined)
      if (!rows) return {}
      known = new Set(rows.map((row) => row.type))
    }
    const unhandled = strange.filter((type) => !known.has(type))
    if (unhandled.length === 0) return {}
    const all = [...known, ...registry.keys()]
    return {
      warnings: unhandled.map(
        (type) =>
          `No live pod handles "${type}".${didYouMean(type, all)} The step stays ready until one does.`,
      ),
    }
  }
}
