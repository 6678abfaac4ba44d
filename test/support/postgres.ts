import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startLocalPostgres } from '../../src/db/local/start.ts'
import { atEnd } from './cleanup.ts'
import { until } from './until.ts'

/** A server of one test file, to be stopped and killed while pods work on it. */
export interface OwnPostgres {
  readonly url: string
  readonly dataDir: string
  isUp(): boolean
  /** fast: clients are sent away. immediate: no goodbye, recovery at the next start. kill: not even that. */
  stop(how: 'fast' | 'immediate' | 'kill'): Promise<void>
  /** On the same port as before, as a restarted server is. */
  start(): Promise<void>
}

const SIGNALS = { fast: 'SIGINT', immediate: 'SIGQUIT', kill: 'SIGKILL' } as const

const SETTINGS = {
  // The machine stays up, so what was handed to the operating system is kept; what was committed has to be.
  fsync: 'off',
  full_page_writes: 'off',
  max_connections: '200',
  shared_preload_libraries: '',
}

export async function startOwnPostgres(
  options: { dataDir?: string; settings?: Record<string, string> } = {},
): Promise<OwnPostgres> {
  const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'fleet-q-outage-'))
  // As root the server runs as somebody else, who has to get here.
  chmodSync(dataDir, 0o755)
  const prefer = process.env['TEST_POSTGRES'] === 'npm' ? 'npm' : 'system'
  const settings = { ...SETTINGS, ...options.settings }
  const start = () => startLocalPostgres({ dataDir, prefer, settings })
  const { url } = await start()
  const pidFile = join(dataDir, 'pg', 'postmaster.pid')

  async function stop(how: 'fast' | 'immediate' | 'kill') {
    const pid = Number(readFileSync(pidFile, 'utf8').split('\n')[0])
    process.kill(pid, SIGNALS[how])
    await until(`Postgres to end (${how})`, () => !isAlive(pid) && (how === 'kill' || !existsSync(pidFile)))
  }

  atEnd(async () => {
    if (existsSync(pidFile)) await stop('immediate').catch(() => {})
    if (!options.dataDir) rmSync(dataDir, { recursive: true, force: true })
  })
  return {
    url,
    dataDir,
    isUp: () => existsSync(pidFile) && isAlive(Number(readFileSync(pidFile, 'utf8').split('\n')[0])),
    stop,
    async start() {
      const again = await start()
      if (again.url !== url) throw new Error(`somebody else took the port: ${new URL(again.url).host}`)
    },
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
