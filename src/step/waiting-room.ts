import type { Database } from '../db/connect.ts'
import { findSettled } from './held.sql.ts'

/** Requests of this pod that wait for the outcomes of steps: one question to the database for all of them. */
export interface WaitingRoom {
  /**
   * Until the step has its outcome, the time is over, or the room is full or closes: then look again. 'gone': the caller
   * has hung up, and nobody wants to know.
   */
  wait(key: string, limitMs: number, onGone: OnGone): Promise<'look' | 'gone'>
  /** Looks of those who have waited, so many at once: ten thousand that end together would all ask the database. */
  inTurn<T>(look: () => Promise<T>): Promise<T>
  readonly size: number
  /** Lets everybody out. */
  close(): void
}

/** Calls when whoever waits has hung up; answers how to forget that again. */
export type OnGone = (act: () => void) => () => void

/** 15 kB of the pod each, most of it their connection (npm run test:long-polls). */
const WAITING_MAX = 10_000
const LOOKING_MAX = 20
const LOOK_EVERY_MS = 100
/** Of the time that a look takes: what waits may cost a twentieth of a connection. */
const REST_FACTOR = 20
/** A look that failed took its whole deadline, and says nothing of the next. */
const REST_MAX_MS = 1000
const KEYS_PER_LOOK = 1000

export function createWaitingRoom(database: Database): WaitingRoom {
  const waiting = new Map<string, Set<() => void>>()
  const queue: (() => void)[] = []
  let looking = 0
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
      for (const { step_id } of await database.run((sql) => findSettled(sql, some)))
        for (const leave of waiting.get(step_id) ?? []) leave()
    }
  }

  return {
    async inTurn(lookAgain) {
      if (looking >= LOOKING_MAX) await new Promise<void>((resolve) => queue.push(resolve))
      else looking++
      try {
        return await lookAgain()
      } finally {
        // Whose turn is next takes this place over.
        const next = queue.shift()
        if (next) next()
        else looking--
      }
    },
    get size() {
      return size
    },
    wait(key, limitMs, onGone) {
      if (isClosed || size >= WAITING_MAX) return Promise.resolve('look')
      return new Promise((resolve) => {
        const others = waiting.get(key) ?? new Set()
        const end = (how: 'look' | 'gone') => {
          if (!others.delete(leave)) return
          size--
          if (others.size === 0) waiting.delete(key)
          clearTimeout(timer)
          forget()
          resolve(how)
        }
        const leave = () => end('look')
        const timer = setTimeout(leave, limitMs)
        const forget = onGone(() => end('gone'))
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
