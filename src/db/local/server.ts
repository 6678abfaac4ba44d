import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { closeSync, constants, fchownSync, fstatSync, ftruncateSync, openSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { FleetError } from '../../errors.ts'
import { type Binaries, quietEnv } from './binaries.ts'
import { diskFull, ELSEWHERE, messageOf } from './fail.ts'
import type { Home } from './home.ts'
import { isAlive } from './marks.ts'
import { type Postmaster, previousPort, previousProgram, readPostmaster, readTail } from './postmaster.ts'

/** Crash recovery of a large backlog of WAL is what takes long; a start after a clean stop takes 30 to 50 ms. */
const READY_MS = 120_000
const STOP_MS = 60_000
const POLL_MS = 5
const LOG_MAX_BYTES = 10_000_000
/** What passes by itself: somebody else took the port; backends of a killed server are still going. */
const PASSING = /could not bind|could not create any TCP|pre-existing shared memory block/
const PASSING_TIMES = 40
const PASSING_REST_MS = 250

const run = promisify(execFile)

/**
 * Starts the server and waits until it takes connections. It is a session of its own that no Ctrl-C in our
 * terminal reaches, and writes to its own log: it outlives this process, however that one ends.
 */
export async function launch(
  home: Home,
  binaries: Binaries,
  settings: Record<string, string>,
): Promise<Postmaster> {
  for (let time = 1; ; time++) {
    const port = await freePort(previousPort(home.cluster))
    const args = serverArgs(home, settings, port)
    const { fd, size } = openLog(home)
    try {
      const server = spawnServer(home, binaries, args, fd)
      const failure = await untilReady(home, server)
      const running = readPostmaster(home.cluster)
      if (failure === undefined && running !== undefined) return running
      const said = readTail(home.log, size)
      if (time > PASSING_TIMES || !PASSING.test(said))
        throw launchFailure(home, binaries, failure ?? '', said)
    } finally {
      closeSync(fd)
    }
    await sleep(PASSING_REST_MS)
  }
}

/** Fast shutdown: clients are sent away, what they committed stays. An idle server is gone after 10 to 50 ms. */
export async function shutDown({ cluster, log }: Home, { pid }: Postmaster): Promise<void> {
  if (process.platform === 'win32') {
    const pgCtl = join(dirname(previousProgram(cluster) ?? ''), 'pg_ctl.exe')
    await run(pgCtl, ['stop', '-W', '-m', 'fast', '-D', cluster], { windowsHide: true })
  } else process.kill(pid, 'SIGINT')
  const until = performance.now() + STOP_MS
  // Not the process alone: without a parent that reaps it, a server that is gone keeps its pid as a zombie.
  while (isAlive(pid) && readPostmaster(cluster)?.pid === pid) {
    if (performance.now() > until)
      throw new FleetError(
        'postgres_failed',
        `The local Postgres (pid ${pid}) has not ended ${STOP_MS / 1000} s after it was asked to. See ${log}.`,
      )
    await sleep(POLL_MS)
  }
}

/** `settings` replace ours, but not those that keep the server on this machine. */
function serverArgs({ cluster }: Home, settings: Record<string, string>, port: number): string[] {
  const all = {
    max_connections: '200',
    shared_buffers: '128MB',
    // Statements of a queue are short: compiling one costs more than it saves, and npm's binaries cannot.
    jit: 'off',
    cluster_name: 'fleet-q',
    ...settings,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    port: String(port),
  }
  return ['-D', cluster, ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])]
}

function spawnServer(home: Home, { postgres, pgCtl }: Binaries, args: string[], log: number): ChildProcess {
  const server =
    process.platform === 'win32'
      ? // pg_ctl sheds the rights of an administrator, with which Postgres refuses to run.
        spawn(pgCtl, ['start', '-W', '-D', home.cluster, '-l', home.log, '-o', quoted(args.slice(2))], {
          stdio: 'ignore',
          windowsHide: true,
          env: quietEnv(),
        })
      : spawn(postgres, args, {
          stdio: ['ignore', log, log],
          detached: true,
          env: quietEnv(),
          cwd: home.dir,
          ...home.user,
        })
  server.unref()
  return server
}

const quoted = (args: string[]) => args.map((arg) => `"${arg}"`).join(' ')

/** Undefined when it takes connections, else in a few words why not. */
async function untilReady({ cluster }: Home, server: ChildProcess): Promise<string | undefined> {
  const ended = new Promise<string>((resolve) => {
    server.once('error', (error) => resolve(messageOf(error)))
    server.once('exit', (code, signal) => {
      // pg_ctl is done at once, and that is well.
      if (process.platform !== 'win32' || code !== 0) resolve(`it ended with ${signal ?? `code ${code}`}`)
    })
  })
  const until = performance.now() + READY_MS
  while (performance.now() < until) {
    const running = readPostmaster(cluster)
    const isThisOne = process.platform === 'win32' || running?.pid === server.pid
    if (running?.ready && isThisOne) return undefined
    const why = await Promise.race([ended, sleep(POLL_MS)])
    if (why !== undefined) return why
  }
  return `it was not ready after ${READY_MS / 1000} s`
}

function launchFailure(home: Home, { major }: Binaries, failure: string, said: string): FleetError {
  if (/No space left on device|Disk quota exceeded/.test(said)) return diskFull(home.dir)
  return new FleetError(
    'postgres_failed',
    `Postgres ${major} did not start on ${home.cluster}: ${failure}. The end of ${home.log}:\n${said}\n` +
      `Mend that, ${ELSEWHERE}.`,
  )
}

/** Appended to, and begun anew when it has grown large. A link that somebody put there is not followed. */
function openLog(home: Home): { fd: number; size: number } {
  const { O_APPEND, O_CREAT, O_WRONLY, O_NOFOLLOW } = constants
  const fd = openSync(home.log, O_APPEND | O_CREAT | O_WRONLY | O_NOFOLLOW, 0o600)
  if (home.user !== undefined) fchownSync(fd, home.user.uid, home.user.gid)
  if (fstatSync(fd).size > LOG_MAX_BYTES) ftruncateSync(fd)
  return { fd, size: fstatSync(fd).size }
}

/** The wished one if nobody has it, else any. */
async function freePort(wished: number): Promise<number> {
  return (await bound(wished)) ?? (await bound(0)) ?? 0
}

const bound = (port: number) =>
  new Promise<number | undefined>((resolve) => {
    const probe = createServer()
    probe.once('error', () => resolve(undefined))
    probe.listen({ host: '127.0.0.1', port, exclusive: true }, () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' ? address?.port : undefined))
    })
  })
