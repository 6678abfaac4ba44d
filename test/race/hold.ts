import type { TestDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'

export interface Held {
  /** Fulfilled when an exchange of the pod has taken steps and cannot commit. */
  caught(): Promise<void>
  release(): Promise<void>
}

/**
 * Stops the next exchange of a pod that claims at its worst moment: it has looked who is paused and cancelled, it has
 * taken its steps, and nobody sees that yet. Its insert of the claim asks for the pod's row, which is locked here.
 * The heartbeat waits for that row as well, so hold it for less than a heartbeat's deadline.
 */
export async function holdClaimsOf(db: TestDatabase, pod: { id: string }): Promise<Held> {
  let release: () => void = () => {}
  const released = new Promise<void>((resolve) => (release = resolve))
  let locked: () => void = () => {}
  const isLocked = new Promise<void>((resolve) => (locked = resolve))
  const over = db.sql.begin(async (tx) => {
    await tx`select 1 from fleet_q.pods where public_id = ${pod.id} for update`
    locked()
    await released
  })
  await Promise.race([isLocked, over])
  return {
    async caught() {
      await until('an exchange to be caught', async () => {
        const [row] = await db.sql`
          select 1 from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock' and query ~ 'step.(claim|exchange) '
            and application_name like ${`fleet-q work ${pod.id}`.slice(0, 63)}`
        return row
      })
    },
    async release() {
      release()
      await over
    },
  }
}
