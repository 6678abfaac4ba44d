import type postgres from 'postgres'
import { FleetError } from '../errors.ts'
import { takeWhole } from './answer.ts'
import { breaksConnections } from './failure.ts'
import { isQuery } from './query.ts'

/** A pool or a transaction: a statement cannot tell which. */
export type Sql = postgres.ISql

interface Transaction<T> {
  /** Of `begin`: an isolation level, say. */
  options: string
  work(tx: Sql): Promise<T>
  /** How many connections of the pool have closed so far. */
  closes(): number
  /** An answer of the server is waited for, or has come. */
  owed?: ((more: 1 | -1) => void) | undefined
}

/**
 * A transaction of the driver, made safe. `sql.begin` of postgres.js 3.4.9 has two holes, both seen:
 *
 * - When the backend dies, it goes on to send `rollback` over a connection that is no more. That throws in a timer of
 *   its own, where nobody can catch it, and takes the process with it: a restart of Postgres would end every pod that
 *   has a transaction open.
 * - The `tx` that it hands out works for ever. What is sent through it after the end of its transaction (by a handler
 *   that ignored its time limit, say) runs outside of any, or inside that of whoever has the connection now; and a
 *   late `rollback` rolls that one back.
 *
 * So the driver learns how the work ended only while the connection lives, and a `tx` that is over refuses. A socket
 * that broke counts as dead before it is closed: a `commit` sent in between is what the driver loses count by.
 */
export function transact<T>(
  pool: postgres.Sql,
  { options, work, closes, owed = () => {} }: Transaction<T>,
): Promise<T> {
  let over = false
  let broken: unknown
  const end = () => {
    over = true
  }
  const note = (error: unknown) => {
    if (breaksConnections(error)) broken ??= error
  }
  owed(1)
  const done = pool.begin(options, (tx) => {
    owed(-1)
    const closesBefore = closes()
    return new Promise<T>((resolve, reject) => {
      const tell = (say: () => void) => {
        const ifAlive = () => {
          if (over || broken) return
          end()
          owed(1)
          say()
        }
        // One of the pool has closed meanwhile. Was it ours? Then `done` is rejected before the next timer runs.
        if (closes() === closesBefore) ifAlive()
        else setTimeout(ifAlive, 0)
      }
      begun(() => work(guarded(tx, () => over, note, owed))).then(
        (value) => tell(() => resolve(value)),
        (error: unknown) => tell(() => reject(error instanceof Error ? error : new Error(String(error)))),
      )
    })
  })
  done.then(end, end)
  // postgres.js types the result of begin as an unwrapped array of promises; ours is one promise.
  return (done as Promise<T>).catch((error: unknown) => {
    throw broken ?? error
  })
}

/** What throws at once fails as what throws later. */
const begun = async <T>(work: () => Promise<T>): Promise<T> => work()

/** Refuses at the moment of sending, not of writing: a query may be written early and awaited late. */
function guarded(
  tx: Sql,
  isOver: () => boolean,
  onFailure: (error: unknown) => void,
  owed: (more: 1 | -1) => void,
): Sql {
  const watched = (made: unknown): unknown => {
    if (!isQuery(made)) return made
    const { handler, resolve, reject } = made
    let sent = false
    const answered = () => {
      if (sent) owed(-1)
      sent = false
    }
    made.handler = (query) => {
      if (isOver()) return query.reject(isPast())
      // With a cursor it is the server that waits, for as long as its reader takes for what he has.
      sent = !query.cursorFn
      if (sent) owed(1)
      return handler(query)
    }
    made.resolve = (rows) => {
      answered()
      resolve(rows)
    }
    made.reject = (error) => {
      answered()
      onFailure(error)
      reject(error)
    }
    takeWhole(made)
    return made
  }
  return new Proxy(tx, {
    apply: (target, self, args) => watched(Reflect.apply(target, self, args)),
    get(target, name) {
      // A savepoint of the driver has the same holes; `savepoint` and `rollback to` of SQL do the same without them.
      if (name === 'savepoint') return undefined
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function'
        ? (...args: unknown[]) => watched(Reflect.apply(value, target, args))
        : value
    },
  })
}

const isPast = () =>
  new FleetError(
    'database_error',
    'This transaction is over: it was committed or rolled back, or its connection was lost. Nothing can be written in it any more.',
  )
