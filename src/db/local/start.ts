import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { FleetError } from '../../errors.ts'
import { hasClients, serverVersion, urlOf } from './ask.ts'
import { findBinaries, type Source } from './binaries.ts'
import { clusterMajor, createCluster } from './cluster.ts'
import { codeOf, ELSEWHERE, inOurWords, messageOf } from './fail.ts'
import { type Home, settleHome } from './home.ts'
import { locked } from './lock.ts'
import { isAlive } from './marks.ts'
import { isServerOf, type Postmaster, readPostmaster } from './postmaster.ts'
import { enter, isAnybodyThere, leave } from './presence.ts'
import { launch, shutDown } from './server.ts'

export interface LocalPostgres {
  url: string
  version: string
  /** Where the data truly lies: not always where it was asked for, see home.ts. */
  dataDir: string
  /** True when this call started the server, false when it joined a running one. */
  started: boolean
  startMs: number
  /** Stops the server if nobody else uses it. */
  stop(): Promise<void>
}

export interface LocalPostgresOptions {
  dataDir: string
  /** Extra settings of the server; a server that is joined keeps its own. */
  settings?: Record<string, string>
  /** Whose binaries to look for first; both are looked for. */
  prefer?: Source
}

/** A server that starts up or shuts down is waited for that long: it may be recovering from a crash. */
const ANSWER_MS = 120_000

/**
 * The Postgres that a pod brings along: of this machine only, shared by all pods that name the same folder (not
 * by containers that mount it: they do not see each other's processes). On 2 busy shared cores, with npm's 18.4
 * or Debian's 15.18: first start 0.65 to 1.0 s, of which initdb 0.55 to 0.85 and the database 0.15; start of a
 * stopped one 45 to 70 ms; joining 8 to 18 ms; stop 50 to 65 ms.
 */
export async function startLocalPostgres(options: LocalPostgresOptions): Promise<LocalPostgres> {
  const began = performance.now()
  const home = settleHome(options.dataDir)
  try {
    const { mark, ...server } = await locked(home.lock, () => joinOrStart(home, options))
    let stopping: Promise<void> | undefined
    return {
      ...server,
      dataDir: home.dir,
      startMs: Math.round(performance.now() - began),
      stop: () => (stopping ??= stop(home, mark)),
    }
  } catch (error) {
    throw inOurWords(error, home.dir)
  }
}

async function joinOrStart(home: Home, { settings = {}, prefer = 'system' }: LocalPostgresOptions) {
  const running = await findRunning(home)
  if (running !== undefined) return { ...running, started: false, mark: enter(home.pods) }
  const major = clusterMajor(home)
  const binaries = await findBinaries(home, major, prefer)
  if (major === undefined) await createCluster(home, binaries)
  const server = await launch(home, binaries, settings)
  try {
    const url = urlOf(home, server.port)
    const version = (await serverVersion(url, home)) ?? String(binaries.major)
    return { url, version, started: true, mark: enter(home.pods) }
  } catch (error) {
    await shutDown(home, server).catch(() => {})
    throw unanswered(home, server, error)
  }
}

/** The server that runs on this home, once it answers. What a dead one left in its place is cleared away. */
async function findRunning(home: Home): Promise<{ url: string; version: string } | undefined> {
  const until = performance.now() + ANSWER_MS
  let failure: unknown
  for (;;) {
    const server = readPostmaster(home.cluster)
    if (server === undefined || !isAlive(server.pid)) return undefined
    if (server.ready)
      try {
        const url = urlOf(home, server.port)
        const version = await serverVersion(url, home)
        if (version !== undefined) return { url, version }
      } catch (error) {
        failure = error
      }
    const isServer = await isServerOf(server.pid, home.cluster)
    if (isServer === false) rmSync(join(home.cluster, 'postmaster.pid'), { force: true })
    // Where it cannot be told, Postgres decides: it does not start beside another server.
    if (isServer !== true) return undefined
    if (isFinal(failure) || performance.now() > until) throw unanswered(home, server, failure)
    await sleep(20)
  }
}

/** A missing password file or a wrong password: waiting does not mend these. */
const isFinal = (failure: unknown) => failure instanceof FleetError || codeOf(failure).startsWith('28')

function unanswered(
  { dir, cluster, log, password }: Home,
  { pid, port }: Postmaster,
  failure: unknown,
): unknown {
  const known = inOurWords(failure, dir)
  if (known instanceof FleetError) return known
  const why = isFinal(failure)
    ? `refuses the password in ${password}`
    : `does not answer (${messageOf(failure)})`
  return new FleetError(
    'postgres_failed',
    `The server on ${cluster} (pid ${pid}, port ${port}) ${why}. See ${log}; end that server, ${ELSEWHERE}.`,
    { cause: failure },
  )
}

/** Under the same lock as a start: a pod that joins in this moment finds the server running, or none at all. */
async function stop(home: Home, mark: string): Promise<void> {
  try {
    await locked(home.lock, async () => {
      leave(home.pods, mark)
      if (isAnybodyThere(home.pods)) return
      const server = readPostmaster(home.cluster)
      if (server === undefined || !isAlive(server.pid)) return
      // After a kill -9 of the server this pid may belong to anything.
      if ((await isServerOf(server.pid, home.cluster)) === false) return
      if (await isIdle(home, server)) await shutDown(home, server)
    })
  } catch (error) {
    // The folder was removed under us: the server sees that its pid file is gone and ends by itself.
    if (codeOf(error) !== 'ENOENT') throw inOurWords(error, home.dir)
  }
}

/** A server that cannot be asked is left alone: too many connections, say, is not nobody. */
async function isIdle(home: Home, { port }: Postmaster): Promise<boolean> {
  try {
    return !(await hasClients(urlOf(home, port)))
  } catch {
    return false
  }
}
