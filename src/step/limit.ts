import type { Actor } from '../access/actor.ts'
import { writeAudit } from '../access/audit.sql.ts'
import type { Database } from '../db/connect.ts'
import { removeLimit, setLimit, type LimitRow } from './limit.sql.ts'

/** At most so many of a type at once; with neither number the type has no limit any more. */
export const limit = (database: Database, actor: Actor, wish: LimitRow): Promise<void> =>
  database.begin(async (tx) => {
    const { type, max_running, max_running_per_key } = wish
    const isNone = max_running === null && max_running_per_key === null
    const changed = isNone ? await removeLimit(tx, type) : await setLimit(tx, wish)
    if (changed.length > 0) await writeAudit(tx, actor, type, { max_running, max_running_per_key })
  })
