import type { Query } from './query.ts'

/**
 * Behind a pooler no statement goes out before the one before it on its connection is answered. The driver sends what is
 * not prepared in two parts, and PgBouncer 1.18 takes a server for free between them where an earlier statement of the
 * same client has just ended there: the answer to the first part then reaches nobody, and the statement waits for ever
 * (seen in one of five runs of 14 s, on a pod that nothing happened to; its pool was given up after 10 s).
 */
export function sendAlone(query: Query): void {
  // The driver's own sign for `begin`: false says that this connection takes nothing more until the answer is there.
  query.options.onexecute = () => false
}
