import assert from 'node:assert/strict'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { describeConfig, loadConfig } from '../../src/config.ts'
import { FleetError } from '../../src/errors.ts'

const refusal = (env: Record<string, string>) => {
  try {
    loadConfig(env)
  } catch (error) {
    assert.ok(error instanceof FleetError)
    assert.equal(error.code, 'config_invalid')
    return error.message
  }
  throw new Error('it was accepted')
}

test('an empty environment is a working configuration with the documented defaults', () => {
  const config = loadConfig({})
  assert.equal(config.apiHost, '127.0.0.1')
  assert.equal(config.apiPort, 8000)
  assert.equal(config.heartbeatSeconds, 5)
  assert.equal(config.deadAfterSeconds, 15)
  assert.equal(config.recoverySeconds, 5)
  assert.equal(config.retentionDays, 7)
  assert.equal(config.maxParallelism, 10)
  assert.equal(config.capacityPercent, 80)
  assert.ok(Object.isFrozen(config))
})

test('a name that is no setting is refused with the one that was meant', () => {
  assert.match(
    refusal({ FLEET_Q_HEARTBEET_SECONDS: '5' }),
    /is not a setting\. Did you mean FLEET_Q_HEARTBEAT_SECONDS\?/,
  )
  assert.match(refusal({ FLEETQ_API_PORT: '1' }), /Did you mean FLEET_Q_API_PORT\?/)
})

test('a threshold below three heartbeats is refused with the reason', () => {
  assert.match(
    refusal({ FLEET_Q_HEARTBEAT_SECONDS: '5', FLEET_Q_DEAD_AFTER_SECONDS: '14' }),
    /only 2\.8 heartbeats.*needs at least 3/,
  )
})

test('numbers out of range, tokens too short and unknown roles are refused by name', () => {
  assert.match(refusal({ FLEET_Q_API_PORT: '70000' }), /^FLEET_Q_API_PORT:/)
  assert.match(refusal({ FLEET_Q_API_PORT: 'eight' }), /^FLEET_Q_API_PORT:/)
  assert.match(refusal({ FLEET_Q_TOKENS: 'admin:short' }), /16 characters or more/)
  assert.match(refusal({ FLEET_Q_TOKENS: 'root:0123456789abcdef' }), /role one of/)
})

test('several mistakes are told at once, a line each', () => {
  assert.equal(
    refusal({ FLEET_Q_API_PORT: '-1', FLEET_Q_MAX_PARALLELISM: '0', FLEET_Q_X: '1' }).split('\n').length,
    3,
  )
})

test('a setting may come from a file, but not from both', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'fleet-q-config-')), 'url')
  writeFileSync(file, 'postgres://app@db/app\n')
  assert.equal(loadConfig({ DATABASE_URL_FILE: file }).databaseUrl, 'postgres://app@db/app')
  assert.match(refusal({ DATABASE_URL_FILE: file, DATABASE_URL: 'x' }), /keep one of the two/)
  assert.match(refusal({ DATABASE_URL_FILE: '/does/not/exist' }), /cannot be read/)
})

test('what is in force is shown with secrets masked', () => {
  const shown = describeConfig({
    DATABASE_URL: 'postgres://app:hunter2@db:5432/app',
    FLEET_Q_TOKENS: 'admin:0123456789abcdef',
    FLEET_Q_API_PORT: '9000',
  }).join('\n')
  assert.doesNotMatch(shown, /hunter2|0123456789abcdef/)
  assert.match(shown, /postgres:\/\/app:\*\*\*@db:5432\/app/)
  assert.match(shown, /FLEET_Q_API_PORT\s+9000\s+set/)
})
