import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { startPodProcess, type PodProcess } from '../support/processes.ts'
import { until } from '../support/until.ts'
import { beginFated, CHECKPOINTS } from './every-checkpoint.ts'

test('an execution whose pod is killed at each of its checkpoints goes on at it, and does nothing twice', async () => {
  const db = await testDatabase()
  const pods: PodProcess[] = []
  const alive = () => pods.filter((pod) => !pod.isOver)
  const start = async () => {
    pods.push(
      await startPodProcess(db.url, { FLEET_Q_DEAD_AFTER_SECONDS: '1', FLEET_Q_HEARTBEAT_SECONDS: '0.2' }),
    )
  }
  await Promise.all([start(), start(), start()])
  const fated = await beginFated(db, pods[0]?.url ?? '', 'death')
  const status = await until(
    'it to end',
    async () => {
      if (alive().length < 3) await start()
      return fated.ended(alive()[0]?.url)
    },
    180_000,
  )
  await fated.assertOnce(status)
  assert.equal(pods.length - alive().length, CHECKPOINTS)
  // Retries are counted from the last checkpoint: the last body was the second try of its own.
  assert.equal(status['retry_count'], 1)
})
