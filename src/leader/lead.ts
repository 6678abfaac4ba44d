import type { Database } from '../db/connect.ts'
import { isUnavailable } from '../db/failure.ts'
import { FleetError } from '../errors.ts'
import { pass } from '../kernel/failpoint.ts'
import type { Log } from '../kernel/log.ts'
import { loop, type Loop } from '../kernel/loop.ts'
import type { Beat } from '../pod/pod.sql.ts'
import { accede, bench, depose, findOpenTerm, prove, resign, succeed } from './leader.sql.ts'

/** Something that the leader does in each round; idempotent, and right with two leaders. */
export interface Chore {
  name: string
  /** Returns in how many milliseconds it wants to be called again, if that is before the next round. */
  run(term: string): Promise<number | undefined | void>
}

export interface LeadershipOptions {
  database: Database
  podId: string
  eligible: boolean
  roundMs: number
  chores: Chore[]
  log: Log
  /** A follower that sees the oldest pod fall silent asks its heart to look again at that moment. */
  lookAgainIn(ms: number): void
  onChange(term: string | undefined): void
}

export interface Leadership {
  readonly loop: Loop
  readonly term: string | undefined
  onBeat(beat: Beat): void
  ring(): void
  resign(why: string): Promise<void>
}

/** A round that takes longer than this many rounds hangs: the leader loses its term. */
const ROUNDS_HUNG = 3
const ROUND_LIMIT_MIN_MS = 10_000
/** A pod that failed as leader lets the others go first for this many round limits. */
const BENCH_LIMITS = 3

/**
 * The oldest living pod leads. Leadership saves work, it protects nothing: two leaders do no harm, because every chore
 * is right when it runs twice.
 */
export function createLeadership(options: LeadershipOptions): Leadership {
  const { database, podId, eligible, roundMs, chores, log } = options
  const roundLimitMs = Math.max(ROUND_LIMIT_MIN_MS, roundMs * ROUNDS_HUNG)
  let term: string | undefined
  let provedAt = 0
  let standing = false

  const rounds = loop({
    name: 'leader',
    everyMs: roundMs,
    async run() {
      if (standing) await stand()
      if (term === undefined) return
      return round(term)
    },
    onError: (error) => log.warn({ err: error }, 'the leader could not end its round'),
  })

  async function stand() {
    standing = false
    const [deposed] = await database.run((sql) => succeed(sql, podId))
    if (deposed) log.info({ term: deposed.term, why: deposed.ended_why }, 'a term ended')
    if (deposed) await pass('term.between')
    const [won] = await database.run((sql) => accede(sql, podId))
    if (won) await pass('term.begun')
    const [own] = won ? [won] : await database.run((sql) => findOpenTerm(sql, podId))
    become(own?.term)
  }

  function become(next: string | undefined) {
    if (next === term) return
    term = next
    provedAt = 0
    log.info(next === undefined ? {} : { term: next }, next === undefined ? 'no longer leading' : 'leading')
    options.onChange(next)
  }

  async function round(mine: string): Promise<number> {
    try {
      let restMs = roundMs
      for (const chore of chores) {
        const wantsMs = await withinLimit(chore.name, chore.run(mine))
        if (wantsMs !== undefined) restMs = Math.min(restMs, Math.max(wantsMs, 10))
      }
      // It is deposed after two limits without a proof: one in each half of a limit will do.
      if (performance.now() - provedAt < roundLimitMs / 2) return restMs
      const [proved] = await database.run((sql) => prove(sql, mine))
      provedAt = performance.now()
      if (!proved) become(undefined)
      return restMs
    } catch (error) {
      // A database that is away is nobody's fault, and a cycle that another one runs is no failure.
      if (!isUnavailable(error) && !(error instanceof FleetError && error.code === 'recovery_in_progress'))
        await giveUp(mine, error)
      throw error
    }
  }

  async function withinLimit<T>(name: string, work: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const hung = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`${name} did not end within ${roundLimitMs} ms`)),
        roundLimitMs,
      )
    })
    try {
      return await Promise.race([work, hung])
    } finally {
      clearTimeout(timer)
    }
  }

  async function giveUp(mine: string, error: unknown) {
    const why = `its round failed: ${error instanceof Error ? error.message : String(error)}`
    become(undefined)
    await database
      .run(async (sql) => {
        await bench(sql, podId, roundLimitMs * BENCH_LIMITS)
        await resign(sql, mine, why.slice(0, 500))
      })
      .catch(() => {})
  }

  return {
    loop: rounds,
    get term() {
      return term
    },
    onBeat(beat) {
      // Terms grow. A beat that was asked before this pod's accession, and heard after it, tells of an older one; where
      // no term is open, this pod's was ended: its next round finds out.
      if (term !== undefined && beat.leader_term !== null && BigInt(beat.leader_term) > BigInt(term))
        become(undefined)
      if (
        beat.leader_unproved_ms !== null &&
        beat.leader_unproved_ms > roundLimitMs * 2 &&
        beat.leader_id !== podId
      )
        void database
          .run((sql) => depose(sql, roundLimitMs * 2, roundLimitMs * BENCH_LIMITS))
          .then(([lost]) => {
            if (lost) log.warn({ term: lost.term }, 'deposed a leader that proved nothing for too long')
          })
          .catch(() => {})
      if (eligible && beat.status === 'live' && beat.eldest && beat.leader_id !== podId) {
        standing = true
        rounds.ring()
      } else if (term === undefined && beat.leader_id === podId) {
        standing = true
        rounds.ring()
      }
      if (beat.suspect_ms !== null) {
        const inMs = Math.max(beat.suspect_ms, 0) + 20
        if (term === undefined) options.lookAgainIn(inMs)
        else setTimeout(() => rounds.ring(), inMs).unref()
      }
    },
    ring: () => rounds.ring(),
    async resign(why) {
      const mine = term
      if (mine === undefined) return
      become(undefined)
      await database.run((sql) => resign(sql, mine, why)).catch(() => {})
    },
  }
}
