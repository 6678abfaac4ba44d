import type { Database } from '../db/connect.ts'
import type { Log } from '../kernel/log.ts'
import { loop, type Loop } from '../kernel/loop.ts'
import { createLookout, type Horizon } from '../pod/lookout.ts'
import { promote } from '../step/promote.ts'

export interface DueMoverOptions {
  database: Database
  isLeading(): boolean
  onMoved(): void
  log: Log
}

export interface DueMover {
  readonly loop: Loop
  /** This pod knows of a step that is due in so many milliseconds. */
  dueIn(ms: number): void
  /** A beat of this pod's heart. */
  heard(beat: Horizon & { last_step: string }): void
}

/** The leader looks for what is due: often while steps come in, for SQL that submits them tells nobody. */
const LEADER_MS = 1000
const LEADER_IDLE_MS = 30_000
/** The others make sure, should it fail. */
const OTHERS_MS = 60_000
const SOON_MS = 60_000
const TIMERS_MAX = 1000

/** Any pod may move what is due into its lane: the leader does it for all, and each what it knows of. */
export function createDueMover({ database, isLeading, onMoved, log }: DueMoverOptions): DueMover {
  const mayHaveNew = createLookout()
  let stepsCame = false
  let timers = 0

  const mover = loop({
    name: 'promote',
    everyMs: OTHERS_MS,
    async run() {
      const { moved, nextMs } = await promote(database)
      if (moved > 0) onMoved()
      const mostMs = isLeading()
        ? stepsCame
          ? LEADER_MS
          : LEADER_IDLE_MS
        : OTHERS_MS * (0.8 + Math.random() * 0.4)
      return Math.min(mostMs, Math.max(nextMs ?? mostMs, 5))
    },
    onError: (error) => log.debug({ err: error }, 'due steps were not moved'),
  })

  return {
    loop: mover,
    dueIn(ms) {
      if (ms > SOON_MS || timers >= TIMERS_MAX) return
      timers++
      setTimeout(() => {
        timers--
        mover.ring()
      }, ms + 5).unref()
    },
    heard(beat) {
      const came = mayHaveNew(beat.last_step, beat)
      // The first that came may be due before the next round of a leader that had nothing to look for.
      if (came && !stepsCame && isLeading()) mover.ring()
      stepsCame = came
    },
  }
}
