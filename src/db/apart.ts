import { connect, type Database, type DatabaseOptions, type Sql } from './connect.ts'
import { isUnavailable } from './failure.ts'
import { watchAnswers } from './watch-answers.ts'

export interface ApartOptions extends Omit<DatabaseOptions, 'max' | 'statements' | 'name'> {
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
  const idle: { database: Database; ownName: string }[] = []
  const all: Database[] = []

  function open() {
    const ownName = nameOf(all.length + 1)
    const database = connect({ ...options, name: ownName, max: 1, statements: 'theirs' })
    all.push(database)
    return { database, ownName }
  }

  async function beginOn<T>(work: (tx: Sql) => Promise<T>, limitMs?: number): Promise<T> {
    const mine = idle.pop() ?? open()
    const watch = watchAnswers(() => isAtWork(asked, mine.ownName))
    try {
      return await mine.database.begin(work, limitMs, watch)
    } finally {
      watch.end()
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
      await Promise.all(all.map((database) => database.close()))
    },
  }
}

const isAtWork = (asked: Database, name: string): Promise<boolean> =>
  asked.run(async (sql) => {
    const rows = await sql`/* db.at_work */
      select from pg_stat_activity where application_name = ${name} and state = 'active' limit 1`
    return rows.length > 0
  })
