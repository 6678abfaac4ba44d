import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { startPodProcess, type PodProcess } from '../support/processes.ts'
import { until } from '../support/until.ts'
import { beginFated, CHECKPOINTS } from './every-checkpoint.ts'

/**
 * A second was too short on a busy machine: pods were declared dead while they started. So it is long, and those that
 * were killed are made silent for as long by the test, which has seen them end.
 */
const PATIENT = { FLEET_Q_DEAD_AFTER_SECONDS: '5', FLEET_Q_HEARTBEAT_SECONDS: '0.3' }

test('an execution whose pod is killed at each of its checkpoints goes on at it, and does nothing twice', async () => {
  const db = await testDatabase()
  const alive = new Set<PodProcess>()
  let killed = 0
  const start = async () => void alive.add(await startPodProcess(db.url, PATIENT))
  await Promise.all([start(), start(), start()])
  const fated = await beginFated(db, [...alive][0]?.url ?? '', 'death')
  const status = await until(
    'it to end',
    async () => {
      for (const pod of alive) {
        if (!pod.isOver) continue
        const { signal } = await pod.exited
        assert.equal(signal, 'SIGKILL', `a pod ended by itself:\n${pod.output().slice(-2000)}`)
        killed++
        alive.delete(pod)
        await db.sql`update fleet_q.pods set beat_at = beat_at - interval '1 minute' where public_id = ${pod.id}`
        await start()
      }
      return fated.ended([...alive][0]?.url)
    },
    300_000,
  )
  await fated.assertOnce(status)
  assert.equal(killed, CHECKPOINTS)
  // Retries are counted from the last checkpoint: the last body was the second try of its own.
  assert.equal(status['retry_count'], 1)
})
