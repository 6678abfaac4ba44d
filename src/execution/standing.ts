import type { CheckpointRow } from './checkpoint.sql.ts'
import type { Ask } from './replay.ts'

/** Parts of an execution that stand still: until a time, or until an answer has come. */
export interface Standing {
  /** Until the first of them is due; null: no time moves any of them on. Undefined: nothing stands still. */
  readonly dueInMs: number | null | undefined
  /** Something else than time can move one of them on. */
  readonly waits: boolean
  /** Undefined: it is due. Rejected where the attempt is told to stop. */
  until(ask: Ask, dueMs: number | null, waits: boolean): Promise<CheckpointRow | undefined>
  end(): void
}

export interface StandingOptions {
  signal: AbortSignal
  /** What has come for the execution. */
  answers(): Promise<CheckpointRow[]>
}

/** The longest that a timer of Node lasts. */
const TIMER_MS_MAX = 2 ** 31 - 1
/** How often an execution of which a part runs looks whether what another part waits for has come. */
const LOOK_EVERY_MS = 1000

interface Stand {
  ask: Ask
  dueAt: number | undefined
  waits: boolean
  leave(came?: CheckpointRow): void
  abort(): void
  timer: NodeJS.Timeout | undefined
}

export function createStanding({ signal, answers }: StandingOptions): Standing {
  const all = new Set<Stand>()
  let looks: NodeJS.Timeout | undefined
  const abortAll = () => {
    for (const each of all) each.abort()
  }

  async function look() {
    if (![...all].some(({ waits }) => waits)) return
    const rows = await answers().catch(() => [])
    for (const each of all) {
      const { name, number } = each.ask
      const came = rows.find((row) => row.arrived && row.name === name && row.number === number)
      if (came) each.leave(came)
    }
  }

  return {
    get dueInMs() {
      if (all.size === 0) return undefined
      const dues = [...all].flatMap(({ dueAt }) => dueAt ?? [])
      return dues.length === 0 ? null : Math.max(0, Math.min(...dues) - performance.now())
    },
    get waits() {
      return [...all].some(({ waits }) => waits)
    },
    until(ask, dueMs, waits) {
      // One for all of them: a signal that many listen to is taken for a leak.
      signal.addEventListener('abort', abortAll)
      if (waits) looks ??= setInterval(() => void look(), LOOK_EVERY_MS).unref()
      return new Promise((resolve, reject) => {
        const left = () => {
          clearTimeout(each.timer)
          return all.delete(each)
        }
        const each: Stand = {
          ask,
          dueAt: dueMs === null ? undefined : performance.now() + dueMs,
          waits,
          timer: dueMs !== null && dueMs < TIMER_MS_MAX ? setTimeout(() => each.leave(), dueMs) : undefined,
          leave(came) {
            if (left()) resolve(came)
          },
          abort() {
            if (left()) reject(signal.reason)
          },
        }
        all.add(each)
      })
    },
    end() {
      clearInterval(looks)
      signal.removeEventListener('abort', abortAll)
      for (const { timer } of all) clearTimeout(timer)
      all.clear()
    },
  }
}
