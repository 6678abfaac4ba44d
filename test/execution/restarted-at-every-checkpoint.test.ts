import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { startOwnPostgres } from '../support/postgres.ts'
import { startPodProcess } from '../support/processes.ts'
import { until } from '../support/until.ts'
import { beginFated, CHECKPOINTS } from './every-checkpoint.ts'

/** An outage is waited for: on a busy machine no pod is to let go of its handler, which would run again rightly. */
const PATIENT = {
  FLEET_Q_DEAD_AFTER_SECONDS: '60',
  FLEET_Q_STALL_SECONDS: '60',
  FLEET_Q_HEARTBEAT_SECONDS: '0.5',
}

test('an execution goes on where Postgres is restarted at each of its checkpoints, and does nothing twice', async () => {
  const server = await startOwnPostgres()
  const db = await testDatabase({ serverUrl: server.url })
  const pods = await Promise.all([startPodProcess(db.url, PATIENT), startPodProcess(db.url, PATIENT)])
  const fated = await beginFated(db, pods[0].url, 'outage')
  for (let place = 1; place <= CHECKPOINTS; place++) {
    await until(
      `it to come to checkpoint ${place}`,
      () => existsSync(join(fated.folder, `met-${place}`)),
      60_000,
    )
    await server.stop(place % 2 === 0 ? 'immediate' : 'fast')
    writeFileSync(join(fated.folder, `away-${place}`), '')
    await server.start()
  }
  const status = await until('it to end', () => fated.ended(pods[1].url), 60_000)
  await fated.assertOnce(status)
  for (const pod of pods) assert.ok(!pod.isOver, `a pod ended:\n${pod.output().slice(-2000)}`)
})
