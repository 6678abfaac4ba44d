import type { Database, Sql } from '../db/connect.ts'
import { pass } from '../kernel/failpoint.ts'
import { ringPods } from './pod.sql.ts'

/** What pods call to each other. Hints only: who misses one finds out by itself, a little later. */
export type Hint =
  /** There is work. */
  | { kind: 'ready' }
  /** Something was put to the front of a lane, before the marks. */
  | { kind: 'forget' }
  | { kind: 'cancel' }
  | { kind: 'limit' }
  | { kind: 'recover' }
  /** A pod that knew of steps that are due soon has left. */
  | { kind: 'due' }
  | { kind: 'drain' }

export const CHANNEL = 'fleet_q'
const KINDS = ['ready', 'forget', 'cancel', 'limit', 'recover', 'due', 'drain']

export function parseHint(payload: string): Hint | undefined {
  try {
    const hint: unknown = JSON.parse(payload)
    const kind: unknown = typeof hint === 'object' && hint !== null && 'kind' in hint ? hint.kind : undefined
    return KINDS.includes(kind as string) ? (hint as Hint) : undefined
  } catch {
    return undefined
  }
}

/** Who is not heard has lost nothing: it never fails. */
export async function callOut(database: Database, podId: string, kind: Hint['kind']): Promise<void> {
  try {
    await pass('call.before')
    await database.run((sql) => ringPods(sql, payload(kind), podId))
    await pass('call.after')
  } catch {
    // The others find out by themselves.
  }
}

const payload = (kind: Hint['kind']) => JSON.stringify({ kind })

/** Under load one call wakes for many steps, and nobody would come sooner for more. */
const REST_MS = 3

/** Calls to the other pods. */
export interface Hints {
  say(kind: Hint['kind']): void
  /**
   * The same right behind a statement that was just sent on this connection: it is called out the moment that one has
   * committed, without the way back to us and out again (other pods start 0.4 ms sooner). Never inside a transaction: a
   * notification there takes a global lock through the commit (13.5k submits a second become 4.8k).
   */
  sayBehind(sql: Sql, kind: Hint['kind'], statement: Promise<unknown>): void
}

export function createHints(database: Database, podId: string): Hints {
  const waiting = new Set<Hint['kind']>()
  let restedAt = 0
  let timer: NodeJS.Timeout | undefined

  function mayCall(): boolean {
    if (performance.now() < restedAt) return false
    restedAt = performance.now() + REST_MS
    return true
  }

  function say(kind: Hint['kind']) {
    if (mayCall()) void callOut(database, podId, kind)
    else {
      waiting.add(kind)
      timer ??= setTimeout(flush, REST_MS).unref()
    }
  }

  function flush() {
    timer = undefined
    const kinds = [...waiting]
    waiting.clear()
    for (const kind of kinds) say(kind)
  }

  return {
    say,
    sayBehind(sql, kind, statement) {
      if (mayCall()) void ringPods(sql, payload(kind), podId).catch(() => {})
      // Gathered calls go out on another connection, where they could come before what they are about.
      else
        statement.then(
          () => say(kind),
          () => {},
        )
    },
  }
}
