import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'

const db = await testDatabase()

test('SIGTERM to `npm start` ends the pod, not only npm: it says goodbye', async () => {
  const npm = spawn('npm', ['start'], {
    stdio: ['ignore', 'ignore', 'inherit'],
    detached: true,
    env: { ...process.env, DATABASE_URL: db.url, FLEET_Q_API_PORT: '0', FLEET_Q_LOG_LEVEL: 'error' },
  })
  atEnd(() => {
    try {
      process.kill(-(npm.pid ?? 0), 'SIGKILL')
    } catch {
      // All of them have ended.
    }
  })
  const status = async () => (await db.sql<{ status: string }[]>`select status from fleet_q.pods`)[0]?.status
  // The row comes a moment before the pod is up; a signal then is heard as well.
  await until('the pod to live', async () => (await status()) === 'live')
  npm.kill('SIGTERM')
  await until('the pod to say goodbye', async () => (await status()) === 'gone')
  assert.equal(await status(), 'gone')
})
