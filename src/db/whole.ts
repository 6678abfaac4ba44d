import type postgres from 'postgres'
import { tellWhole } from './answer.ts'
import { isQuery } from './transaction.ts'

/** A pool whose answers are whole. */
export function whole(pool: postgres.Sql): postgres.Sql {
  const watched = (made: unknown): unknown => {
    if (!isQuery(made)) return made
    const { resolve, reject } = made
    made.resolve = (rows) => tellWhole({ resolve, reject }, rows)
    return made
  }
  return new Proxy(pool, {
    apply: (target, self, args) => watched(Reflect.apply(target, self, args)),
  })
}
