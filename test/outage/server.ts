import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres from 'postgres'
import { startLocalPostgres } from '../../src/db/local/start.ts'
import { atEnd } from '../support/cleanup.ts'
import { createTemplate, withDatabase } from '../support/template.ts'
import { until } from '../support/until.ts'

/** How a Postgres goes: sends its clients away, drops everything at once, or is killed. */
export type Way = 'SIGINT' | 'SIGQUIT' | 'SIGKILL'

export interface OwnServer {
  /** A migrated database; the address stays the same over restarts. */
  readonly url: string
  /** Looks into the database, from after the last outage on. */
  sql(): postgres.Sql
  /** The server is away while the work goes on, and back when this is over, whatever became of the work. */
  awayWhile<T>(way: Way, work: () => Promise<T>): Promise<T>
}

/** A Postgres of this test file alone, so that what is done to it hits nobody else. */
export async function startOwnServer(): Promise<OwnServer> {
  const asked = mkdtempSync(join(tmpdir(), 'fleet-q-outage-'))
  const settings = { fsync: 'off', max_connections: '100', shared_preload_libraries: '' }
  const start = () => startLocalPostgres({ dataDir: asked, settings })
  const locals = [await start()]
  const [first] = locals
  assert.ok(first)
  // The data may lie elsewhere than it was asked for: see home.ts.
  const pidFile = join(first.dataDir, 'pg', 'postmaster.pid')
  const postmaster = () => Number(readFileSync(pidFile, 'utf8').split('\n')[0])
  const looks: postgres.Sql[] = []

  async function end(way: Way) {
    const pid = postmaster()
    process.kill(pid, way)
    await until(`Postgres to end by ${way}`, () => !isThere(pid))
  }

  atEnd(async () => {
    console.error('end begins', performance.now())
    for (const look of looks) await look.end({ timeout: 1 })
    await end('SIGINT')
    for (const local of locals) await local.stop()
    for (const folder of [first.dataDir, asked]) rmSync(folder, { recursive: true, force: true })
  })

  const { name } = await createTemplate(first.url)
  const url = withDatabase(first.url, name)
  // What a pool of before the outage says first is the last word of a server that is no more.
  const open = () => looks.push(postgres(url, { max: 2, onnotice: () => {} }))
  open()

  return {
    url,
    sql() {
      const last = looks.at(-1)
      assert.ok(last)
      return last
    },
    async awayWhile(way, work) {
      await end(way)
      try {
        return await work()
      } finally {
        const next = await start()
        locals.push(next)
        open()
        assert.equal(new URL(next.url).port, new URL(url).port, 'the server came back at another port')
      }
    },
  }
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
