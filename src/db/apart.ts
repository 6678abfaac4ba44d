import { connect, type Database, type DatabaseOptions } from './connect.ts'
import { isUnavailable } from './failure.ts'
import { DiedSilently } from './watch-answers.ts'

export interface ApartOptions extends Omit<DatabaseOptions, 'max' | 'statements' | 'name' | 'isAtWork'> {
  /** Each has its own. */
  nameOf(n: number): string
  /** Another way to the database, and its name there: asks what became of a connection that says nothing. */
  asked: Database
  askedName: string
}

interface Apart {
  database: Database
  /** The transaction that it is used for has begun. */
  begun: boolean
}

/**
 * Transactions that take as long as their users wish, each on a connection that is given up by itself: one that died
 * must not take those of other handlers along.
 */
export function connectApart({
  asked,
  askedName,
  nameOf,
  ...options
}: ApartOptions): Pick<Database, 'begin' | 'close'> {
  const idle: Apart[] = []
  const all: Apart[] = []
  let closed = false

  function open(): Apart {
    const name = nameOf(all.length + 1)
    const isAtWork = (): Promise<boolean> => isServing(asked, askedName, name, mine.begun)
    const mine: Apart = {
      database: connect({ ...options, name, max: 1, statements: 'theirs', isAtWork }),
      begun: false,
    }
    all.push(mine)
    if (closed) void mine.database.close()
    return mine
  }

  return {
    async begin(work, limitMs = options.deadlineMs) {
      const until = performance.now() + limitMs
      for (let isFirst = true; ; isFirst = false) {
        const mine = idle.pop() ?? open()
        mine.begun = false
        try {
          return await mine.database.begin((tx) => {
            mine.begun = true
            return work(tx)
          }, limitMs)
        } catch (error) {
          // It had died while it rested, and nothing was done on it: no handler need know. The next is a new connection.
          const mayRepeat = isFirst || error instanceof DiedSilently
          if (mine.begun || !isUnavailable(error) || !mayRepeat || performance.now() > until) throw error
        } finally {
          idle.push(mine)
        }
      }
    },
    async close() {
      closed = true
      await Promise.all(all.map(({ database }) => database.close()))
    },
  }
}

/**
 * A transaction that has not begun is asked for again on a new connection, and nothing is lost: where the server knows
 * nothing of it, it is given up, though it may only stand in the line of a pooler. One that has begun may have done
 * something, and is given up only where its name would be seen: a pooler need not hand names on. Found by the chaos
 * programme: behind PgBouncer all sixteen handlers of a pod stood in front of connections that a network had forgotten,
 * for eighteen minutes, and would have for an hour.
 */
async function isServing(
  asked: Database,
  askedName: string,
  name: string,
  hasBegun: boolean,
): Promise<boolean> {
  const [seen] = await asked.run(
    (sql) => sql<{ active: boolean; named: boolean }[]>`/* db.at_work */
      select exists (select from pg_stat_activity where application_name = ${name} and state = 'active') as active,
        current_setting('application_name') = ${askedName} as named`,
  )
  return !seen || seen.active || (hasBegun && !seen.named)
}
