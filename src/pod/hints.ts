import { setTimeout as sleep } from 'node:timers/promises'
import type { Database } from '../db/connect.ts'
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

export const callOut = (database: Database, podId: string, kind: Hint['kind']) =>
  database.run((sql) => ringPods(sql, JSON.stringify({ kind }), podId)).catch(() => {})

/** Between two calls: under load one wakes for many steps, and nobody would come sooner for more. */
const REST_MS = 3

/**
 * Calls to the other pods, at most one of a kind at a time and never inside anybody's transaction: a notification there
 * takes a global lock through the commit (13.5k submits a second become 4.8k).
 */
export function createHints(database: Database, podId: string): (kind: Hint['kind']) => void {
  const waiting = new Set<Hint['kind']>()
  let busy = false

  async function flush() {
    busy = true
    while (waiting.size > 0) {
      const kinds = [...waiting]
      waiting.clear()
      for (const kind of kinds) await callOut(database, podId, kind)
      await sleep(REST_MS)
    }
    busy = false
  }

  return (kind) => {
    waiting.add(kind)
    if (!busy) void flush()
  }
}
