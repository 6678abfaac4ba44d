/**
 * Places at which a crash is interesting. Nothing ever happens there, unless a test has put something in its way: no
 * setting, no request and no entry of the package reaches `arm` (test/tidy.test.ts holds us to it).
 */
export const PLACES = [
  /** An exchange or settle is about to be sent: handlers have ended, nothing is handed in. */
  'exchange.before',
  /** Its answer is here: settled and claimed on the server, unknown to the pod. */
  'exchange.after',
  /** Inside the transaction of a claim under a limit of the fleet, whose row it has locked; and committed, unknown to the pod. */
  'limited.before_commit',
  'limited.after_commit',
  /** Claims were found whose answer was lost: about to be given back, and given back. */
  'stray.found',
  'stray.released',
  /** The handler's own transaction is about to settle, has settled and is about to commit, has committed. */
  'transaction.before_settle',
  'transaction.before_commit',
  'transaction.after_commit',
  /** The body of a ctx.run with a transaction has ended; its checkpoint is written, and not committed. */
  'run.before_write',
  'run.before_commit',
  /** Checkpoints of many executions are about to be sent; they are written, and nobody here knows. */
  'checkpoint.before_write',
  'checkpoint.after_write',
  /**
   * Inside the transaction in which executions go to sleep and steps end that others wait for: the letters are locked; it is
   * settled, and whoever waits is not answered; all is done, and not committed.
   */
  'waits.before_settle',
  'waits.before_answer',
  'waits.before_commit',
  /** That it has failed is remembered, and nothing is undone; one is undone, and that is not remembered. */
  'undo.before',
  'undo.after',
  'event.before',
  'event.after',
  'submit.before',
  /** Written; under a key or a unique key in a transaction that has not committed. */
  'submit.after',
  /** Committed in any case, and the caller is not told. */
  'submit.committed',
  /** The pod has its row, and no heart yet. */
  'register.after',
  'beat.before',
  'beat.after',
  /** The term of another is ended and none has begun; this pod's has begun, and nobody here knows. */
  'term.between',
  'term.begun',
  /** Somebody was declared dead, and nothing of his is put back. */
  'recovery.declared',
  /** Inside the transaction: claim rows are deleted, steps not yet put back. */
  'recovery.between',
  'recovery.before_commit',
  'recovery.after_commit',
  /** A cycle that somebody had asked for is over, and he is not told. */
  'recovery.before_answer',
  'due.before',
  'due.after',
  'call.before',
  'call.after',
  'cancel.before',
  'cancel.after',
  /** Inside the transaction: outcomes are put aside, steps not yet in their lanes. */
  'redrive.between',
  'redrive.before_commit',
  'redrive.after_commit',
  /** The pause is written; claims that began before it are not waited for. */
  'pause.between',
  'retention.before',
  'retention.after',
  /** Inside the transaction of a migration, and between two of them. */
  'migration.before_commit',
  'migration.after_commit',
  /** Its row says that it leaves, its term is given back; its handlers run. */
  'goodbye.draining',
  'goodbye.before',
  'goodbye.after',
] as const

export type Place = (typeof PLACES)[number]

/** Answers nothing, or what to wait for; may throw. */
type Act = (place: Place) => Promise<void> | undefined

let act: Act | undefined

export function arm(what: Act): void {
  act = what
}

/** A pod comes past. On a hot path only wait where there is something to wait for: a turn of the loop costs. */
export const pass = (place: Place): Promise<void> | undefined => act?.(place)
