import { createWriteStream } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { call, type Reply } from '../support/http.ts'
import type { World } from './world.ts'

export interface Told {
  op: string
  /** `maybe event`: nobody knows whether it was kept. */
  f: 'submit' | 'cancel' | 'retry' | 'event' | 'maybe event'
  stepId: string
  at: Date
}

/** Asks pods, one after the other, and does not give up. What it asked and what it was told goes into its history. */
export interface Caller {
  readonly told: Told[]
  /** Answers that no fault explains: neither 2xx, nor 503, nor what an operator's call may say. */
  readonly strange: string[]
  note(line: object): void
  /** Undefined: nobody knows whether it was done. */
  ask(dice: number, path: string, body: unknown, key?: string): Promise<Reply | undefined>
  /** Until there is one of these answers. `onUnknown`: it may have been done, and is asked for once more. */
  insist(wish: Insistence): Promise<Reply>
  end(): Promise<void>
}

export interface Insistence {
  op: string
  path: string
  body: unknown
  key?: string
  good?: number[]
  onUnknown?(): void
  /** Whom to ask. */
  dice(): number
}

/** A call that got lost in a network is given up by then; whether it was done, nobody knows. */
const CALL_LIMIT_MS = 8000
const REST_MS = 50
const REST_MS_MAX = 1000

export function createCaller(world: World, historyFile: string): Caller {
  const history = createWriteStream(historyFile)
  const strange: string[] = []

  const note = (line: object) => void history.write(`${JSON.stringify({ at: Date.now(), ...line })}\n`)

  async function ask(dice: number, path: string, body: unknown, key?: string): Promise<Reply | undefined> {
    const slot = world.podBy(dice)
    if (!slot?.pod) return undefined
    const headers = key === undefined ? {} : { 'idempotency-key': key }
    return call(slot.pod.url, 'POST', path, body, headers, CALL_LIMIT_MS).catch(() => undefined)
  }

  return {
    told: [],
    strange,
    note,
    ask,
    async insist({ op, path, body, key, good = [200, 201], onUnknown, dice }) {
      for (let restMs = REST_MS; ; restMs = Math.min(restMs * 2, REST_MS_MAX)) {
        note({ type: 'invoke', op, path })
        const reply = await ask(dice(), path, body, key)
        if (reply && good.includes(reply.status)) return reply
        note({ type: 'info', op, status: reply?.status })
        if (reply && reply.status !== 503)
          strange.push(`${path} answered ${reply.status}: ${JSON.stringify(reply.body).slice(0, 300)}`)
        onUnknown?.()
        await sleep(restMs)
      }
    },
    end: () => new Promise((resolve) => void history.end(resolve)),
  }
}
