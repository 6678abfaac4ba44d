import { limit as setLimit } from '../../step/limit.ts'
import { listLimits } from '../../step/limit.sql.ts'
import type { Handlers } from '../server.ts'
import type { Door } from './door.ts'

export const limitRoutes = ({ database, say, onLimit }: Door): Pick<Handlers, 'setLimit' | 'listLimits'> => ({
  async setLimit({ body }, caller) {
    const limit = {
      type: body.type,
      max_running: body.max_running ?? null,
      max_running_per_key: body.max_running_per_key ?? null,
    }
    const none = limit.max_running === null && limit.max_running_per_key === null
    await setLimit(database, caller, limit)
    onLimit()
    say('limit')
    const whole = limit.max_running === null ? '' : ` ${limit.max_running} at once`
    const each = limit.max_running_per_key === null ? '' : ` ${limit.max_running_per_key} of each key at once`
    const message = none
      ? `Steps of type "${limit.type}" have no limit.`
      : `Of type "${limit.type}" at most${[whole, each].filter(Boolean).join(' and')} run in the whole fleet; what runs goes on.`
    return { body: { ...limit, message } }
  },

  async listLimits() {
    return { body: { limits: await database.run(async (sql) => [...(await listLimits(sql))]) } }
  },
})
