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
 * had come. An answer names the command that it is for. Anything else breaks the connection: what comes next on it is
 * the answer to another question.
 */
const isAnswer = (rows: unknown) =>
  !(Array.isArray(rows) && 'command' in rows && (rows.command === null || rows.command === undefined))

/**
 * A row that has fewer columns than were asked for is somebody else's. Seen once under chaos: a submit was answered 500
 * for it.
 */
const isMisread = (error: unknown) =>
  error instanceof RangeError && 'code' in error && error.code === 'ERR_OUT_OF_RANGE'

/**
 * Connections of which it is known that answers are handed to the wrong question. They are given up at once, and that is
 * too late for what came in the same piece: in a test the second of three callers was told what the first had asked.
 */
const outOfStep = new WeakSet<object>()

const noAnswer = (cause?: unknown) =>
  Object.assign(new Error('the server was ready without an answer', { cause }), { code: 'ECONNABORTED' })

/** What the driver hands out as the answer is taken for what it is. */
export function takeWhole(query: Query): void {
  const { resolve, reject } = query
  const isOutOfStep = () => query.state !== null && outOfStep.has(query.state)
  const breakOff = (cause?: unknown) => {
    if (query.state) outOfStep.add(query.state)
    reject(noAnswer(cause))
  }
  query.resolve = (rows) => {
    // A cursor that its reader has closed ends without a command.
    if (query.cursorFn || (isAnswer(rows) && !isOutOfStep())) resolve(closeRanks(rows))
    else breakOff()
  }
  query.reject = (error) => {
    if (isMisread(error) || isOutOfStep()) breakOff(error)
    else reject(error)
  }
}
