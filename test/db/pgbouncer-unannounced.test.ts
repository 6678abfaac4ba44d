import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadConfig } from '../../src/config.ts'
import { startPod } from '../../src/fleet/start-pod.ts'
import { silentLog } from '../../src/kernel/log.ts'
import { testDatabase } from '../support/database.ts'
import { findPgBouncer, startPgBouncer } from '../support/pgbouncer.ts'

if (findPgBouncer()) {
  const db = await testDatabase()
  const bouncer = await startPgBouncer(db.url, 4)

  test('a pod that was not told of PgBouncer does not start, and says which setting is missing', async () => {
    const begun = performance.now()
    const config = loadConfig({ FLEET_Q_API_PORT: '0' })
    const start = startPod({
      config,
      databaseUrl: bouncer.url,
      steps: [],
      log: silentLog(),
      onFenced: () => {},
    })
    await assert.rejects(start, {
      code: 'config_invalid',
      message: /a PgBouncer answers.*FLEET_Q_DATABASE_POOLER=1/,
    })
    assert.ok(performance.now() - begun < 20_000, 'it was waited for, as if time could mend it')
  })
} else test('pgbouncer is not installed: not checked (what a pod says that was not told of it)', () => {})
