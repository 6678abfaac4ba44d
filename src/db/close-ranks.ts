import type postgres from 'postgres'
import { isQuery } from './transaction.ts'

/**
 * Without the holes before its first row. postgres.js 3.4.9 counts the rows of an answer, and does not begin anew where an
 * answer breaks off, by an error or by the end of its connection: the next answer on that connection has as many holes in
 * front as rows had come before (490 of 6,800 answers while backends were terminated, 25 rows and a pause in each). What
 * is taken by its place, the ids of steps that were submitted together, would be somebody else's.
 */
export function closeRanks<T>(rows: T): T {
  if (Array.isArray(rows) && rows.length > 0 && !(0 in rows)) {
    let holes = 1
    while (holes < rows.length && !(holes in rows)) holes++
    rows.splice(0, holes)
  }
  return rows
}

/** A pool whose answers are whole. */
export function whole(pool: postgres.Sql): postgres.Sql {
  const watched = (made: unknown): unknown => {
    if (!isQuery(made)) return made
    const { resolve } = made
    made.resolve = (rows) => resolve(closeRanks(rows))
    return made
  }
  return new Proxy(pool, {
    apply: (target, self, args) => watched(Reflect.apply(target, self, args)),
  })
}
