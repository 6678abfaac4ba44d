import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { migrate } from '../../src/db/migrate.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { startPodProcess } from '../support/processes.ts'
import { startProxy } from '../support/proxy.ts'

/** A pod that cannot start says why in a sentence, and what to do; it shows no trace and does not exit with 0. */

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const db = await testDatabase()

async function start(env: Record<string, string>): Promise<{ code: number | null; said: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', MAIN], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      DATABASE_URL: db.url,
      FLEET_Q_API_PORT: '0',
      FLEET_Q_LOG_LEVEL: 'error',
      ...env,
    },
  })
  atEnd(() => void child.kill('SIGKILL'))
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, said }
}

/** What went wrong and what to do, in a few lines; nothing of our insides, and no secret. */
async function assertTold(env: Record<string, string>, ...words: RegExp[]) {
  const { code, said } = await start(env)
  assert.equal(code, 1, said)
  for (const word of words) assert.match(said, word)
  assert.match(said, /^fleet-q: /)
  assert.doesNotMatch(said, /\n\s+at |node_modules|node:internal|\.ts:\d/, 'it shows a trace')
  assert.ok(said.trim().split('\n').length <= 3, `it says too much:\n${said}`)
  const password = new URL(db.url).password
  assert.ok(password === '' || !said.includes(password), 'it shows the password')
}

/** The same database with something changed in its address. */
function address(change: (url: URL) => void): string {
  const url = new URL(db.url)
  change(url)
  return url.href
}

suite('a pod that cannot start', { concurrency: 3 }, () => {
  test('a port that is taken', async () => {
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
    atEnd(() => void taken.close())
    const bound = taken.address()
    const port = typeof bound === 'object' && bound !== null ? bound.port : 0
    await assertTold(
      { FLEET_Q_API_PORT: String(port) },
      new RegExp(`Port ${port} .*is taken`),
      new RegExp(`FLEET_Q_API_PORT=${port + 1}`),
    )
    // Beside it others of this suite may have come up.
    const rows = await db.sql`select status from fleet_q.pods where ended_why = 'it could not serve'`
    assert.deepEqual([...rows], [{ status: 'gone' }])
  })

  test('a database that nobody serves: it is waited for a while, then said', async () => {
    const proxy = await startProxy(db.url)
    await proxy.refuse()
    const where = new URL(proxy.url).host.replaceAll('.', '\\.')
    const env = { DATABASE_URL: proxy.url }
    const [, { said }] = await Promise.all([
      assertTold(
        env,
        new RegExp(`The database at ${where} cannot be reached.*DATABASE_URL.*ECONNREFUSED`, 's'),
      ),
      start({ ...env, FLEET_Q_LOG_LEVEL: 'warn' }),
    ])
    assert.match(said, /waiting for the database/)
  })

  test('a database that comes after three seconds: the pod starts', async () => {
    const proxy = await startProxy(db.url)
    await proxy.refuse()
    const coming = setTimeout(() => proxy.pass(), 3000)
    atEnd(() => clearTimeout(coming))
    // On a busy machine the pod may come to its first try only when the database is there already.
    await startPodProcess(proxy.url)
  })

  test('a host that does not exist', async () => {
    await assertTold(
      { DATABASE_URL: address((url) => (url.hostname = 'no-such-host.invalid')) },
      /The database at no-such-host\.invalid:\d+ cannot be reached.*DATABASE_URL/,
      /ENOTFOUND|EAI_AGAIN/,
    )
  })

  test('a wrong password, which is not tried again and again', async () => {
    const env = { DATABASE_URL: address((url) => (url.password = 'wrong-and-secret')) }
    await assertTold(env, /refuses the user "\w+"\. Check the user and the password in DATABASE_URL/)
    const { said } = await start({ ...env, FLEET_Q_LOG_LEVEL: 'warn' })
    assert.doesNotMatch(said, /waiting for the database/)
  })

  test('a database that does not exist', async () => {
    await assertTold(
      { DATABASE_URL: address((url) => (url.pathname = '/nowhere')) },
      /There is no database "nowhere" in the Postgres at .*Create it .*or correct the name at the end of DATABASE_URL/,
    )
  })

  test('an address that is none', async () => {
    for (const url of ['localhost:5432/fleet', 'mysql://root@localhost/fleet', 'postgres://user:pass@:x/y'])
      await assertTold(
        { DATABASE_URL: url },
        /DATABASE_URL: is no address of a Postgres\. It has the form postgres:/,
      )
  })

  test('a user who may not create the schema', async () => {
    const empty = await testDatabase({ empty: true })
    await db.sql`create role start_errors_guest login password 'guest'`
    atEnd(() => db.sql`drop role start_errors_guest`)
    const url = new URL(empty.url)
    url.username = 'start_errors_guest'
    url.password = 'guest'
    await assertTold({ DATABASE_URL: url.href }, /"start_errors_guest" may not/, /grant create on database/i)
  })

  test('a schema that is newer than this build', async () => {
    const newer = await testDatabase()
    await newer.sql`insert into fleet_q.migrations (version, name) values (9999, 'from the future')`
    await assertTold(
      { DATABASE_URL: newer.url },
      /schema in this database is version 9999; this build knows \d+/,
      /deploy that version|point DATABASE_URL/,
    )
  })

  test('a Postgres that is too old', async () => {
    // None is to be had here: what answers is a stand-in for its look-up.
    const old = {
      run: <T>() => Promise.resolve([{ number: '130011', name: '13.11' }] as T),
      begin: () => Promise.reject(new Error('it went on')),
      close: () => Promise.resolve(),
    }
    await assert.rejects(migrate(old), {
      code: 'postgres_too_old',
      message: /Postgres 13\.11 is too old: Fleet-Q needs 14 or later\. Point DATABASE_URL at a newer/,
    })
  })

  test('a setting that is none, with the one that was meant; all that is wrong is said at once', async () => {
    await assertTold(
      { FLEET_Q_HEARTBEAT_SECOND: '5', FLEET_Q_API_PORT: 'eighty' },
      /FLEET_Q_HEARTBEAT_SECOND: is not a setting\. Did you mean .?FLEET_Q_HEARTBEAT_SECONDS/,
      /FLEET_Q_API_PORT: /,
    )
  })

  test('an address beyond this machine without a token', async () => {
    await assertTold(
      { FLEET_Q_API_HOST: '0.0.0.0' },
      /FLEET_Q_API_HOST: 0\.0\.0\.0 can be reached from elsewhere/,
      /FLEET_Q_TOKENS/,
    )
  })

  test('a folder of handlers that is not there', async () => {
    await assertTold(
      { FLEET_Q_HANDLERS: 'no/such/folder' },
      /FLEET_Q_HANDLERS/,
      /there is no folder .*Create it, or correct the path/,
    )
  })
})
