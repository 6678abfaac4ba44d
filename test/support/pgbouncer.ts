import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atEnd } from './cleanup.ts'
import { until } from './until.ts'

/** PgBouncer in transaction mode, in front of one database. */
export interface PgBouncer {
  readonly version: string
  /** Its console: SHOW POOLS and the like, to whoever speaks the simple protocol. */
  readonly console: string
  /** The same database, through it. */
  readonly url: string
  /** Ends it at once, with all its connections; `start` brings it back on the same port. */
  kill(): Promise<void>
  start(): Promise<void>
}

/** Where Debian puts it is in the PATH of root only. */
const PLACES = [
  'pgbouncer',
  '/usr/sbin/pgbouncer',
  '/usr/local/sbin/pgbouncer',
  '/opt/homebrew/bin/pgbouncer',
]
/** It refuses to run as root. */
const NOBODY = { uid: 65534, gid: 65534 }

/** Undefined where it is not installed. */
export function findPgBouncer(): { file: string; version: string } | undefined {
  for (const file of PLACES) {
    const { status, stdout } = spawnSync(file, ['--version'], { encoding: 'utf8' })
    if (status === 0) return { file, version: stdout.split('\n')[0] ?? '' }
  }
  return undefined
}

export async function startPgBouncer(databaseUrl: string, serverConnections: number): Promise<PgBouncer> {
  const found = findPgBouncer()
  if (!found) throw new Error('pgbouncer is not installed')
  const { hostname, port, username, password, pathname } = new URL(databaseUrl)
  const folder = mkdtempSync(join(tmpdir(), 'fleet-q-pgbouncer-'))
  atEnd(() => rmSync(folder, { recursive: true, force: true }))
  const user = process.getuid?.() === 0 ? NOBODY : undefined
  const own = (path: string, mode: number) => {
    chmodSync(path, mode)
    if (user) chownSync(path, user.uid, user.gid)
  }
  const listenPort = await freePort()
  const config = join(folder, 'pgbouncer.ini')
  const database = decodeURIComponent(pathname.slice(1))
  const secret = decodeURIComponent(password).replaceAll("'", "''")
  writeFileSync(
    config,
    [
      '[databases]',
      `${database} = host=${hostname} port=${port} dbname=${database} user=${username} password='${secret}'`,
      '[pgbouncer]',
      'listen_addr = 127.0.0.1',
      `listen_port = ${listenPort}`,
      'unix_socket_dir =',
      'auth_type = any',
      'pool_mode = transaction',
      `default_pool_size = ${serverConnections}`,
      'max_client_conn = 4000',
      // 15 s if nothing is said: one refused login, as in a restart of Postgres, and everybody waits so long.
      'server_login_retry = 1',
      `logfile = ${join(folder, 'log')}`,
    ].join('\n'),
  )
  own(folder, 0o700)
  own(config, 0o600)

  let child: ChildProcess | undefined
  const kill = async () => {
    const victim = child
    child = undefined
    if (!victim || victim.exitCode !== null) return
    const gone = new Promise((resolve) => victim.once('exit', resolve))
    victim.kill('SIGKILL')
    await gone
  }
  const start = async () => {
    const begun = spawn(found.file, [config], { stdio: 'ignore', cwd: folder, ...user })
    child = begun
    await until('pgbouncer to listen', () => {
      if (begun.exitCode !== null) throw new Error(`pgbouncer ended with ${begun.exitCode}; see its log`)
      return listensAt(listenPort)
    })
  }
  atEnd(kill)
  await start()
  const url = new URL(databaseUrl)
  url.hostname = '127.0.0.1'
  url.port = String(listenPort)
  const console = new URL(url)
  console.pathname = '/pgbouncer'
  return { version: found.version, url: url.href, console: console.href, kill, start }
}

const freePort = () =>
  new Promise<number>((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })

const listensAt = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
