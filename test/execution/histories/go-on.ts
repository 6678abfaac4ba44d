import assert from 'node:assert/strict'
import { createClient } from '../../../src/client.ts'
import type { TestDatabase } from '../../support/database.ts'
import { startTestPod } from '../../support/pods.ts'
import type { End } from './history.ts'
import { child, ran, scenarios, type Scenario } from './scenarios.ts'

export const STEPS = [child, ...scenarios.map(([, { step }]) => step)]

/** Wakes an execution that lies asleep in this database, on a pod that never saw it, and tells how it ended. */
export async function goOn(db: TestDatabase, executionId: string, { wake }: Scenario): Promise<End> {
  ran.length = 0
  if ('travel' in wake) await db.travel(wake.travel)
  const pod = await startTestPod(db.url, STEPS)
  const client = createClient({ baseUrl: pod.url })
  const execution_id = executionId
  if ('event' in wake) {
    const { delivered } = await client.sendEvent({ execution_id, event_name: wake.event })
    assert.ok(delivered, 'it was asleep over it')
  }
  const { status, result, error } = await client.waitForExecution({ execution_id })
  await pod.stop()
  return { status, result: JSON.stringify(result), error: error?.message ?? null, ran: [...ran] }
}
