import type { Query } from './query.ts'

/**
 * Without the holes before its first row. postgres.js 3.4.9 counts the rows of an answer, and does not begin anew where an
 * answer breaks off, by an error or by the end of its connection: the next answer on that connection has as many holes in
 * front as rows had come before (490 of 6,800 answers while backends were terminated, 25 rows and a pause in each). What
 * is taken by its place, the ids of steps that were submitted together, would be somebody else's.
 */
function closeRanks<T>(rows: T): T {
  if (Array.isArray(rows) && rows.length > 0 && !(0 in rows)) {
    let holes = 1
    while (holes < rows.length && !(holes in rows)) holes++
    rows.splice(0, holes)
  }
  return rows
}

/**
 * The driver takes the word that a server is ready for the end of what it asked, and hands out an empty answer where none
 * had come. An answer names the command that it is for. Anything else breaks the connection: what comes next on it would be
 * the answer to another question.
 */
const isAnswer = (rows: unknown) =>
  !(Array.isArray(rows) && 'command' in rows && (rows.command === null || rows.command === undefined))

const noAnswer = () =>
  Object.assign(new Error('the server was ready without an answer'), { code: 'ECONNABORTED' })

/** What the driver hands out as the answer is taken for what it is. */
export function takeWhole(query: Query): void {
  const { resolve } = query
  query.resolve = (rows) => {
    // A cursor that its reader has closed ends without a command.
    if (query.cursorFn || isAnswer(rows)) resolve(closeRanks(rows))
    else query.reject(noAnswer())
  }
}
