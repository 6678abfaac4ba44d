import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { canReach } from '../../src/db/local/home.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'

/** Start errors that need files: each is a sentence that names them and a way on, and no trace. */

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const HANDLER_MODULE = JSON.stringify(new URL('../../src/step/handler.ts', import.meta.url).href)
const NOBODY = { uid: 65534, gid: 65534 }
const isRoot = process.getuid?.() === 0

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'fleet-q-refuses-')))
chmodSync(folder, 0o755)
atEnd(() => rmSync(folder, { recursive: true, force: true }))
const db = await testDatabase()

async function refusal(env: Record<string, string>, as: Partial<typeof NOBODY> = {}): Promise<string> {
  const child = spawn(process.execPath, ['--import', 'tsx', join(ROOT, 'src/main.ts')], {
    ...as,
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 60_000,
    killSignal: 'SIGKILL',
    env: { PATH: process.env['PATH'], HOME: folder, FLEET_Q_API_PORT: '0', ...env },
  })
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  assert.equal(code, 1, `it came up, or was killed:\n${said}`)
  assert.match(said, /^fleet-q: \S/)
  assert.doesNotMatch(said, /\n\s+at /, 'no stack trace for what a person can mend')
  return said
}

suite('a pod does not start', { concurrency: 2 }, () => {
  test('with settings that contradict each other: it names both values and the rule', async () => {
    const said = await refusal({
      DATABASE_URL: db.url,
      FLEET_Q_HEARTBEAT_SECONDS: '2',
      FLEET_Q_DEAD_AFTER_SECONDS: '5',
    })
    assert.match(said, /FLEET_Q_DEAD_AFTER_SECONDS: 5 s is only 2\.5 heartbeats of 2 s; .*at least 3/)
  })

  test('with a data folder that it may not write: it names the folder, who asks, and two ways on', async (t) => {
    if (isRoot && !canReach(join(ROOT, 'node_modules'), NOBODY))
      return t.skip('an ordinary user cannot read this project, so no pod can run as one')
    const closed = join(folder, 'closed')
    mkdirSync(closed)
    chmodSync(closed, 0o555)
    const said = await refusal({ FLEET_Q_DATA_DIR: join(closed, 'data') }, isRoot ? NOBODY : {})
    assert.ok(said.includes(join(closed, 'data')), said)
    assert.match(said, new RegExp(`uid ${isRoot ? NOBODY.uid : process.getuid?.()}`))
    assert.match(said, /FLEET_Q_DATA_DIR.*DATABASE_URL/)
  })

  test('with two definitions of one type: it names the type and both places', async () => {
    const handlers = join(folder, 'twice')
    mkdirSync(handlers)
    for (const name of ['first', 'second'])
      writeFileSync(
        join(handlers, `${name}.mjs`),
        `import { defineStep } from ${HANDLER_MODULE}\nexport const ${name} = defineStep('mail.send', {}, () => 1)\n`,
      )
    const said = await refusal({ DATABASE_URL: db.url, FLEET_Q_HANDLERS: handlers })
    assert.match(said, /The step type "mail\.send" is defined twice: .*Rename one/)
    for (const name of ['first.mjs', 'second.mjs']) assert.ok(said.includes(join(handlers, name)), said)
  })
})
