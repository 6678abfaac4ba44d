import { connect, type Database, type DatabaseOptions, type Sql } from './connect.ts'
import { isUnavailable } from './failure.ts'

export interface ApartOptions extends Omit<DatabaseOptions, 'max' | 'statements' | 'name' | 'isAtWork'> {
  /** Each has its own. */
  nameOf(n: number): string
  /** Another way to the database: asks what became of a connection that says nothing. */
  asked: Database
}

/**
 * Transactions that take as long as their users wish, each on a connection that is given up by itself: one that died
 * must not take those of other handlers along.
 */
export function connectApart({ asked, nameOf, ...options }: ApartOptions): Pick<Database, 'begin' | 'close'> {
  const idle: Database[] = []
  const all: Database[] = []
  let closed = false

  function open(): Database {
    const name = nameOf(all.length + 1)
    const isAtWork = () => isServing(asked, name, options.pooler)
    const database = connect({ ...options, name, max: 1, statements: 'theirs', isAtWork })
    all.push(database)
    if (closed) void database.close()
    return database
  }

  async function beginOn<T>(work: (tx: Sql) => Promise<T>, limitMs?: number): Promise<T> {
    const mine = idle.pop() ?? open()
    try {
      return await mine.begin(work, limitMs)
    } finally {
      idle.push(mine)
    }
  }

  return {
    async begin(work, limitMs) {
      let begun = false
      const once = (tx: Sql) => {
        begun = true
        return work(tx)
      }
      try {
        return await beginOn(once, limitMs)
      } catch (error) {
        // It had died while it rested, and nothing was done on it: no handler need know.
        if (begun || !isUnavailable(error)) throw error
        return beginOn(work, limitMs)
      }
    },
    async close() {
      closed = true
      await Promise.all(all.map((database) => database.close()))
    },
  }
}

async function isServing(asked: Database, name: string, pooler: boolean): Promise<boolean> {
  const sessions = await asked.run(
    (sql) => sql<{ state: string | null }[]>`/* db.at_work */
      select state from pg_stat_activity where application_name = ${name} limit 10`,
  )
  // A pooler need not hand our name on: then nothing is known. It tells its clients when a server has gone.
  if (sessions.length === 0) return pooler
  return sessions.some(({ state }) => state === 'active')
}
