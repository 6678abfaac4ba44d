import postgres from 'postgres'
import { FleetError } from '../errors.ts'
import { sendAlone } from './alone.ts'
import { takeWhole } from './answer.ts'
import { teachArrays } from './arrays.ts'
import { breaksConnections, isUnavailable, refusesSettings, sqlState } from './failure.ts'
import { eachQuery } from './query.ts'
import { wayTo } from './tls.ts'
import { transact, type Sql } from './transaction.ts'
import { watchAnswers, type AnswerWatch } from './watch-answers.ts'

export type { Sql } from './transaction.ts'

export interface DatabaseOptions {
  url: string
  /** Shown in pg_stat_activity. */
  name: string
  max: number
  /** Behind PgBouncer in transaction mode: no prepared statements, no settings in the start-up message. */
  pooler: boolean
  /** Every query ends by then, whatever the network does. */
  deadlineMs: number
  /** Whose SQL runs here; ours if nothing is said. Where users' SQL runs, the settings of their server decide. */
  statements?: 'ours' | 'theirs'
  /** Whether the server is at work for this connection: asked when a transaction waits for long, see watch-answers.ts. */
  isAtWork?(): Promise<boolean>
  onDiscard?(reason: string): void
}

/** What connect gives. */
export interface Pool extends Database {
  /** Calls that are under way, or wait for a connection. */
  readonly underWay: number
}

export interface Database {
  /** One statement, or several that need no transaction. */
  run<T>(work: (sql: Sql) => Promise<T>, deadlineMs?: number): Promise<T>
  /** One transaction. */
  begin<T>(work: (tx: Sql) => Promise<T>, deadlineMs?: number): Promise<T>
  close(): Promise<void>
}

/**
 * One plan for each statement of ours, made once, the same whatever the statistics say. Postgres keeps the plan that
 * it made while a tray was empty until somebody analyses the table: an exchange of 100 then scanned its trays from end
 * to end, 1.5 s on Postgres 15 and 4.4 s on 18 at a backlog of 200,000; 6 to 9 ms with these settings. A backlog that
 * comes and goes within a minute is what a queue is for, so this is no rare case. Bitmap scans read a lane to its end
 * before they sort it. Planning anew costs an exchange about 1 ms, compiling it (jit) a tenth of a second. Behind a
 * pooler nothing is prepared, and every plan is made for the tables as they are.
 */
const PINNED_PLANS = {
  enable_seqscan: 'off',
  enable_bitmapscan: 'off',
  plan_cache_mode: 'force_generic_plan',
  jit: 'off',
}

const READ_ONLY = '25006'

/** More callers than this per connection means that the database is not answering: say so at once. */
const WAITING_PER_CONNECTION_MAX = 200

/**
 * postgres.js behind deadlines of our own. A query of postgres.js 3.4.9 on a half-open connection never returns
 * (measured: pending after 8 s with statement_timeout, connect_timeout and keep_alive all at 1 to 2 s), so a
 * query that overstays takes its whole pool with it, and the next one opens a new pool. `sql.reserve()` is
 * not used anywhere: when its backend dies, the driver throws where nobody can catch it.
 */
export function connect(options: DatabaseOptions): Pool {
  const { max, deadlineMs } = options
  let closes = 0
  const openPool = () => open(options, () => closes++)
  let pool = openPool()
  let waiting = 0
  let closed = false

  function discard(victim: postgres.Sql, reason: string) {
    if (victim !== pool || closed) return
    pool = openPool()
    options.onDiscard?.(reason)
    void victim.end({ timeout: 0 }).catch(() => {})
  }

  async function within<T>(
    limitMs: number,
    work: (sql: postgres.Sql) => Promise<T>,
    watch?: AnswerWatch,
  ): Promise<T> {
    if (closed) throw new FleetError('not_running', 'This pod is shutting down.', { retryAfterSeconds: 1 })
    if (waiting >= max * WAITING_PER_CONNECTION_MAX)
      throw new FleetError('database_unavailable', 'Too many callers are waiting for the database.', {
        retryAfterSeconds: 2,
      })
    const mine = pool
    let timer: NodeJS.Timeout | undefined
    const overdue = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(
          new FleetError('database_unavailable', `The database did not answer within ${limitMs} ms.`, {
            retryAfterSeconds: 2,
          }),
        )
        discard(mine, `a query did not return within ${limitMs} ms`)
      }, limitMs)
    })
    waiting++
    watch?.dead.catch(() => discard(mine, 'a connection died without a word'))
    try {
      return await Promise.race([work(mine), overdue, ...(watch ? [watch.dead] : [])])
    } catch (error) {
      if (breaksConnections(error)) discard(mine, `a connection broke (${sqlState(error)})`)
      // The server that was ours can only read now: after a failover the same address leads to another one.
      else if (sqlState(error) === READ_ONLY && options.statements !== 'theirs')
        discard(mine, 'the server at its other end can only read')
      throw error
    } finally {
      waiting--
      clearTimeout(timer)
    }
  }

  return {
    get underWay() {
      return waiting
    },
    run: (work, limitMs = deadlineMs) => within(limitMs, work),
    async begin(work, limitMs = deadlineMs) {
      const watch = options.isAtWork && watchAnswers(options.isAtWork)
      const isolation = options.statements === 'theirs' ? '' : ISOLATION
      try {
        return await within(
          limitMs,
          (sql) => transact(sql, { options: isolation, work, closes: () => closes, owed: watch?.owed }),
          watch,
        )
      } finally {
        watch?.end()
      }
    },
    async close() {
      closed = true
      await pool.end({ timeout: 2 }).catch(() => {})
    },
  }
}

/**
 * Whatever the default of the database is: a second statement has to see what was committed since the first, or
 * recovery puts back what was settled meanwhile.
 */
const ISOLATION = 'isolation level read committed'

/** The server ends a slow statement before our deadline does: the connection then survives it. */
const bounds = (deadlineMs: number) => ({
  ...PINNED_PLANS,
  default_transaction_isolation: 'read committed',
  // All that is ours is named with its schema. A function that somebody puts into public would otherwise be called in
  // place of a built-in one, where it fits the arguments better.
  search_path: 'pg_catalog',
  statement_timeout: Math.max(1000, deadlineMs - 1000),
  lock_timeout: Math.max(1000, deadlineMs - 2000),
  // A pod frozen inside a transaction would hide steps from everybody (SKIP LOCKED skips them).
  idle_in_transaction_session_timeout: 10_000,
})

/** A handler's transaction ends with its attempt, and holds no row of ours before its settle: it may rest a while. */
const THEIR_BOUNDS = { idle_in_transaction_session_timeout: 60_000 }

function open(options: DatabaseOptions, onclose: () => void): postgres.Sql {
  const { url, name, max, pooler, deadlineMs, statements = 'ours' } = options
  const way = wayTo(url)
  const pool = postgres(way.url, {
    ...way.place,
    ssl: way.ssl,
    max,
    onclose,
    fetch_types: false,
    prepare: !pooler,
    connect_timeout: Math.max(1, Math.ceil(deadlineMs / 2000)),
    idle_timeout: 120,
    // The driver's own back-off grows to 20 s; a database that is back must be found at once.
    backoff: (attempt) => Math.min(0.05 * 2 ** attempt, 1) * (0.5 + Math.random()),
    onnotice: () => {},
    connection: {
      application_name: name,
      ...(pooler ? {} : statements === 'ours' ? bounds(deadlineMs) : THEIR_BOUNDS),
    },
  })
  teachArrays(pool)
  return eachQuery(pool, (query) => {
    takeWhole(query)
    if (pooler) sendAlone(query)
  })
}

/** Repeats a transaction that lost a race which Postgres asks to repeat: serialization failure or deadlock. */
export async function repeatOnConflict<T>(work: () => Promise<T>, timesMax = 4): Promise<T> {
  for (let time = 1; ; time++) {
    try {
      return await work()
    } catch (error) {
      const state = sqlState(error)
      if ((state !== '40001' && state !== '40P01') || time >= timesMax) throw error
    }
  }
}

/** Opens a connection, so that the first statement need not. */
export const greet = (database: Database) => database.run((sql) => sql`/* db.hello */ select 1`)

/** Asks until the database answers or the limit is reached; for a pod that starts before its database does. */
export async function awaitDatabase(database: Database, limitMs: number, onWait: (error: unknown) => void) {
  const until = performance.now() + limitMs
  for (let restMs = 250; ; restMs = Math.min(restMs * 2, 4000)) {
    try {
      return await greet(database)
    } catch (error) {
      const isFinal = !isUnavailable(error) || refusesSettings(error)
      if (isFinal || performance.now() + restMs > until) throw error
      onWait(error)
      await new Promise((resolve) => setTimeout(resolve, restMs))
    }
  }
}
