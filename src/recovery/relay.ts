import type { Actor } from '../access/actor.ts'
import { writeAudit } from '../access/audit.sql.ts'
import type { Database } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import { askLeader, findAnswer, type CycleReport } from './recovery.sql.ts'

const ANSWER_LIMIT_MS = 25_000
const LOOK_EVERY_MS = 100

/** Passes the wish for a cycle to the leader through the database, and waits for what it answers. */
export async function relayCycle(
  database: Database,
  actor: Actor,
  askedBy: string,
  options: { force: boolean; dry_run: boolean },
  ring: () => void,
): Promise<CycleReport & { cycleId: string | null }> {
  const { force, dry_run } = options
  const request = await database.begin(async (tx) => {
    const [row] = await askLeader(tx, askedBy, JSON.stringify({ force, dry_run }))
    if (!row) throw new FleetError('internal_error', 'the wish was not written')
    if (!dry_run) await writeAudit(tx, actor, null, { relayed: true, force })
    return row
  })
  ring()
  const until = performance.now() + ANSWER_LIMIT_MS
  while (performance.now() < until) {
    const [row] = await database.run((sql) => findAnswer(sql, request.id))
    if (row) return row.answer as CycleReport & { cycleId: string | null }
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS))
  }
  throw new FleetError(
    'timeout',
    `The leader did not answer within ${ANSWER_LIMIT_MS / 1000} s. GET /admin/leader says who it is; the wish stays written and is answered when a leader finds it.`,
  )
}
