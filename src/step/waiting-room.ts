import type { Database } from '../db/connect.ts'
import { findSettledElsewhere } from './claim.sql.ts'

/** Requests of this pod that wait for the outcomes of steps: one question to the database for all of them. */
export interface WaitingRoom {
  /** Fulfilled when the step has its outcome, the time is over, the caller is gone, or the room is full or closes. */
  wait(key: string, limitMs: number, onGone: OnGone): Promise<void>
  readonly size: number
  /** Lets everybody out. */
  close(): void
}

/** Calls when whoever waits has hung up; answers how to forget that again. */
export type OnGone = (act: () => void) => () => void

/** 10,000 took 30 ms of the database a look, and 5 kB of the pod each. */
const WAITING_MAX = 10_000
const LOOK_EVERY_MS = 100
/** Of the time that a look takes: what waits may cost a twentieth of a connection. */
const REST_FACTOR = 20
/** A look that failed took its whole deadline, and says nothing of the next. */
const REST_MAX_MS = 1000
const KEYS_PER_LOOK = 1000

export function createWaitingRoom(database: Database): WaitingRoom {
  const waiting = new Map<string, Set<() => void>>()
  let size = 0
  let isLooking = false
  let isClosed = false

  async function look() {
    if (isLooking) return
    isLooking = true
    while (waiting.size > 0) {
      const begunAt = performance.now()
      // While the database is away nobody can be told anything; they are let out when their time is over.
      await lookOnce().catch(() => {})
      const restMs = Math.max(LOOK_EVERY_MS, (performance.now() - begunAt) * REST_FACTOR)
      await new Promise((resolve) => setTimeout(resolve, Math.min(restMs, REST_MAX_MS)).unref())
    }
    isLooking = false
  }

  async function lookOnce() {
    const keys = [...waiting.keys()]
    for (let from = 0; from < keys.length; from += KEYS_PER_LOOK) {
      const some = keys.slice(from, from + KEYS_PER_LOOK)
      for (const { step_id } of await database.run((sql) => findSettledElsewhere(sql, some)))
        for (const leave of waiting.get(step_id) ?? []) leave()
    }
  }

  return {
    get size() {
      return size
    },
    wait(key, limitMs, onGone) {
      if (isClosed || size >= WAITING_MAX) return Promise.resolve()
      return new Promise((resolve) => {
        const others = waiting.get(key) ?? new Set()
        const leave = () => {
          if (!others.delete(leave)) return
          size--
          if (others.size === 0) waiting.delete(key)
          clearTimeout(timer)
          forget()
          resolve()
        }
        const timer = setTimeout(leave, limitMs)
        const forget = onGone(leave)
        waiting.set(key, others.add(leave))
        size++
        void look()
      })
    },
    close() {
      isClosed = true
      for (const each of waiting.values()) for (const leave of each) leave()
    },
  }
}
