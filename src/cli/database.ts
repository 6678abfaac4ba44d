import { loadConfig } from '../config.ts'
import { noContact } from '../db/address.ts'
import { connect, greet, type Database } from '../db/connect.ts'
import { startLocalPostgres } from '../db/local/start.ts'
import { inWords } from '../db/words.ts'

type Environment = Record<string, string | undefined>

const DEADLINE_MS = 20_000

/** For commands that need no pod: the database of DATABASE_URL, or the Postgres that pods in this folder bring. */
export async function withDatabase<T>(
  env: Environment,
  name: string,
  work: (database: Database) => Promise<T>,
): Promise<T> {
  const config = loadConfig(env)
  const local = config.databaseUrl ? undefined : await startLocalPostgres({ dataDir: config.dataDir })
  const url = local?.url ?? config.databaseUrl
  const pool = connect({
    url,
    name: `fleet-q ${name}`,
    max: 2,
    pooler: config.databasePooler,
    deadlineMs: DEADLINE_MS,
  })
  try {
    await greet(pool).catch((error: unknown) => {
      throw noContact(error, url)
    })
    return await work(inWords(pool))
  } finally {
    await pool.close()
    await local?.stop()
  }
}
