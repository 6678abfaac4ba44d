import type { Sql } from '../../../src/db/connect.ts'
import type { History } from './sound-history.ts'

/** What no queue may do, done once to a sound history. */
export interface Forgery {
  /** These invariants, in the order of their names, and no other. */
  breaks: string[]
  by: string
  /** Answers what a witness has to name. */
  forge(sql: Sql, history: History): Promise<string>
}
