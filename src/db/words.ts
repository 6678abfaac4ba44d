import type { Database } from './connect.ts'
import { inOurWords } from './failure.ts'

/** The same database, its failures in our words: for callers whose errors go to people. */
export function inWords(database: Database): Database {
  const told = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work
    } catch (error) {
      throw inOurWords(error)
    }
  }
  return {
    run: (work, limitMs) => told(database.run(work, limitMs)),
    begin: (work, limitMs) => told(database.begin(work, limitMs)),
    close: () => database.close(),
  }
}
