import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { get, submit } from '../support/http.ts'
import { startPodProcess, type PodProcess } from '../support/processes.ts'
import { until } from '../support/until.ts'

const CHECKPOINTS = 20

test('an execution whose pod is killed at each of its checkpoints goes on at it, and does nothing twice', async () => {
  const db = await testDatabase()
  await db.sql`create table public.effects (place int)`
  const folder = mkdtempSync(join(tmpdir(), 'fleet-q-'))
  atEnd(() => rmSync(folder, { recursive: true }))

  const pods: PodProcess[] = []
  const alive = () => pods.filter((pod) => !pod.isOver)
  const start = async () => {
    pods.push(
      await startPodProcess(db.url, { FLEET_Q_DEAD_AFTER_SECONDS: '1', FLEET_Q_HEARTBEAT_SECONDS: '0.2' }),
    )
  }
  await Promise.all([start(), start(), start()])
  const id = await submit(pods[0]?.url ?? '', { type: 'dying', args: { folder, checkpoints: CHECKPOINTS } })
  const status = await until(
    'it to end',
    async () => {
      if (alive().length < 3) await start()
      const [pod] = alive()
      const { body } = await get(pod?.url ?? '', `/status/${id}`).catch(() => ({
        body: {} as Record<string, unknown>,
      }))
      return body['tray'] === 'settled' && body
    },
    180_000,
  )
  const places = Array.from({ length: CHECKPOINTS }, (_, i) => i + 1)
  assert.deepEqual(status['result'], { got: places })
  assert.equal(pods.length - alive().length, CHECKPOINTS)
  const ledger = await db.sql`select place from public.effects order by place`
  assert.deepEqual(
    ledger.map((row) => row['place']),
    places.filter((place) => place % 2 === 0),
  )
  const effects = readFileSync(join(folder, 'effects'), 'utf8').trim().split('\n').map(Number)
  assert.deepEqual(
    effects,
    places.filter((place) => place % 2 === 1),
  )
  // Retries are counted from the last checkpoint: the last body was the second try of its own.
  assert.equal(status['retry_count'], 1)
})
