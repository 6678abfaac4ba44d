import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startLocalPostgres } from '../../src/db/local/start.ts'

export interface TestServer {
  url: string
  version: string
  stop(): Promise<void>
}

/** A Postgres for a whole run, gone afterwards with everything that was in it. */
export async function startTestServer(): Promise<TestServer> {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-q-test-'))
  const local = await startLocalPostgres({
    dataDir: folder,
    prefer: process.env['TEST_POSTGRES'] === 'npm' ? 'npm' : 'system',
    settings: {
      // Tests kill pods and backends, never the machine: what fsync protects from does not happen here.
      fsync: 'off',
      synchronous_commit: 'off',
      full_page_writes: 'off',
      max_connections: '400',
      shared_preload_libraries: '',
    },
  })
  return {
    url: local.url,
    version: local.version,
    async stop() {
      await local.stop()
      // As root the data lies where the server's own user can reach it.
      rmSync(local.dataDir, { recursive: true, force: true })
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
