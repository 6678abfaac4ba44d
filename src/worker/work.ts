import type { Database } from '../db/connect.ts'
import { isUnavailable } from '../db/failure.ts'
import type { Log } from '../kernel/log.ts'
import { loop, type Loop } from '../kernel/loop.ts'
import {
  exchange,
  findSettledElsewhere,
  findStrayClaims,
  settle,
  type ClaimedStep,
  type DroppedSteps,
  type RefusedReport,
  type Report,
} from '../step/exchange.sql.ts'
import { createLimitedClaims } from './claim-limited.ts'
import { createMarks } from './marks.ts'
import type { Notes } from './notes.ts'
import type { Registry } from './registry.ts'
import { LET_GO_MS, startAttempt, Stop, type Attempt } from './run-attempt.ts'

export interface WorkerOptions {
  database: Database
  /** For ctx.tx: each handler may hold a connection for as long as it runs. */
  transactions: Database
  podId: string
  registry: Registry
  capacity: number
  pollMs: number
  stepTimeoutMs: number
  notes: Notes
  log: Log
  mayClaim(): boolean
  /** Something lies in a lane again: tell whoever waits. */
  onPutBack(): void
  /** A step of a limited type has ended: another pod may start one. */
  onLimitFreed(): void
  /** A step of this pod is due again in so many milliseconds. */
  onDueIn(ms: number): void
  onRunning(running: number, stuck: number): void
}

export interface PodWorker {
  readonly loop: Loop
  readonly running: number
  readonly stuck: number
  ring(): void
  /** What was put to the front of a lane lies before the marks. */
  forgetMarks(): void
  /** Looks whether steps that run here have been cancelled. */
  lookForCancelled(): Promise<void>
  /** Limits may have changed. */
  refreshLimits(): Promise<void>
  stopClaiming(): void
  resumeClaiming(): void
  /** Aborts every handler; their steps are released, or refused where the claim is gone. */
  letGo(why: 'shutdown' | 'silence' | 'fenced' | 'crash', message: string): void
  /** Fulfilled when no handler runs and everything is handed in, or after `limitMs`. True: all of it. */
  finish(limitMs: number): Promise<boolean>
}

const REPORTS_PER_EXCHANGE = 1000
/** From the beginning of each lane, for what committed late: seldom, and apart from other pods. */
const SWEEP_MS = 25_000
/** A pod that finds nothing looks again without marks, but not all the time: behind a pinned xmin horizon each
 * such look walks every dead entry. */
const IDLE_SWEEP_MS = 2000
const CONTENDED_MS = 20
/** An exchange that we gave up waiting for may still commit on the server, after the look that followed it. */
const STRAY_CHECK_MS = 30_000
/** More handlers than this share of the capacity that ignore their abort: the pod is not healthy. */
export const STUCK_SHARE = 0.5

/** The claim loop: hands in what ended, takes what there are free slots for, in one statement. */
export function createWorker(options: WorkerOptions): PodWorker {
  const { database, podId, registry, capacity, log, notes } = options
  const types = [...registry.keys()]
  const marks = createMarks()
  const limits = createLimitedClaims(database, types)
  const attempts = new Map<string, Attempt>()
  /** Steps of each claim that are not handed in yet; a claim without any can end. */
  const open = new Map<string, Set<string>>()
  const waiting: ClaimedStep[] = []
  const stuck = new Set<Attempt>()
  let reports: Report[] = []
  let limitFreed = false
  let claiming = true
  let answerLost = false
  let exchanging = false
  let lookAfterTake = false
  let cameShort = false
  let sweptAt = performance.now()
  const sweepMs = SWEEP_MS * (0.8 + Math.random() * 0.4)
  let strayCheckedAt = performance.now()
  let afterLane = 0
  const idle = new Set<() => void>()
  /** Set when this pod lets go for good: what an exchange under way still brings goes back unstarted. */
  let leaving: string | undefined

  const worker = loop({
    name: 'exchange',
    everyMs: options.pollMs,
    async run() {
      exchanging = true
      try {
        return await turn()
      } finally {
        exchanging = false
        wakeIdle()
        if (lookAfterTake) lookForCancelled().catch(() => {})
      }
    },
    onError(error) {
      answerLost = true
      if (isUnavailable(error))
        log.debug({ err: error }, 'the database is away; results are kept and handed in later')
      else log.error({ err: error }, 'the exchange failed')
    },
  })

  async function turn(): Promise<number> {
    if (answerLost || performance.now() - strayCheckedAt > STRAY_CHECK_MS) await releaseStrayClaims()
    const batch = reports.slice(0, REPORTS_PER_EXCHANGE)
    const ended = endedClaims(batch)
    const free = claiming && options.mayClaim() ? capacity - attempts.size - waiting.length : 0
    if (free <= 0 && batch.length === 0 && ended.length === 0) return options.pollMs

    sweepIfDue()
    const rows: (ClaimedStep | RefusedReport | DroppedSteps)[] =
      free > 0
        ? await database.run((sql) =>
            exchange(
              sql,
              {
                podId,
                types,
                limit: free,
                afterLane,
                markLanes: marks.lanes(),
                markPositions: marks.positions(),
              },
              batch,
              ended,
            ),
          )
        : await database.run((sql) => settle(sql, podId, batch, ended))

    reports = reports.slice(batch.length)
    for (const report of batch) open.get(report.claimId)?.delete(report.stepId)
    for (const claim of ended) open.delete(claim)
    if (batch.some((report) => report.ended === 'released')) putBack()
    for (const { delayMs } of batch) if (delayMs !== null && delayMs > 0) options.onDueIn(delayMs)
    noteRefusals(rows)
    const claimed = rows.filter((row): row is ClaimedStep => row.kind === 'claimed')
    take(claimed)
    if (limitFreed) options.onLimitFreed()
    limitFreed = false
    const more = await limits.claim({ podId, limit: free - claimed.length, afterLane })
    take(more.steps)
    // Cancelled steps lay in front: thousands of them must not cost a rest for every few.
    const dropped = more.dropped || rows.some((row) => row.kind === 'dropped')
    cameShort = free > 0 && claimed.length < free && !dropped
    // Another pod held the lock of a limit: it is free again in a moment.
    if (more.contended) return CONTENDED_MS
    return dropped || batch.some((report) => report.delayMs === 0) ? 0 : restMs(free, claimed.length)
  }

  /** How long to rest: not at all when there is more to do that needs no other event to come first. */
  function restMs(free: number, claimed: number): number {
    if (reports.length > 0 || (claimed > 0 && claimed === free && attempts.size < capacity)) return 0
    if (cameShort && marks.lanes().length > 0) return IDLE_SWEEP_MS
    // A small stagger, so that idle pods do not ask at the same moment for ever.
    return options.pollMs * (0.9 + Math.random() * 0.2)
  }

  function sweepIfDue() {
    const dueMs = cameShort ? IDLE_SWEEP_MS : sweepMs
    if (performance.now() - sweptAt < dueMs) return
    marks.forget()
    sweptAt = performance.now()
  }

  function take(claimed: ClaimedStep[]) {
    const now = performance.now()
    for (const step of claimed) {
      marks.took(step.lane_id, BigInt(step.position), now)
      const steps = open.get(step.claim_id)
      if (steps) steps.add(step.step_id)
      else open.set(step.claim_id, new Set([step.step_id]))
      if (leaving !== undefined)
        reports.push(releaseReport(step.claim_id, step.step_id, step.attempt, leaving))
      else if (mayStart(step)) start(step)
      else waiting.push(step)
    }
    const last = claimed.at(-1)
    if (last) afterLane = last.lane_id
  }

  /** A type may want fewer at once than the pod has slots. */
  function mayStart(step: ClaimedStep): boolean {
    const limit = registry.get(step.type)?.definition.concurrency
    if (limit === undefined) return true
    let same = 0
    for (const attempt of attempts.values()) if (attempt.step.type === step.type) same++
    return same < limit
  }

  function start(step: ClaimedStep) {
    const handled = registry.get(step.type)
    if (!handled) throw new Error(`claimed a step of type ${step.type}, which this pod does not handle`)
    const attempt = startAttempt(step, handled, {
      database: options.transactions,
      podId,
      notes,
      stepTimeoutMs: options.stepTimeoutMs,
    })
    attempts.set(step.step_id, attempt)
    show()
    void attempt.report.then((report) => handIn(attempt, report))
    void attempt.over.then(() => {
      if (stuck.delete(attempt)) show()
    })
  }

  function handIn(attempt: Attempt, report: Report | undefined) {
    const { step } = attempt
    attempts.delete(step.step_id)
    if (limits.has(step.type)) limitFreed = true
    if (report) reports.push(report)
    else open.get(step.claim_id)?.delete(step.step_id)
    // One that was aborted and still runs: its slot is free, but it is counted until it ends.
    if (attempt.controller.signal.aborted) {
      stuck.add(attempt)
      void attempt.over.then(() => stuck.delete(attempt) && show())
    }
    const next = waiting.findIndex(mayStart)
    if (next >= 0) for (const step of waiting.splice(next, 1)) start(step)
    show()
    worker.ring()
  }

  /** Claims that end with these reports: nothing of them is open. */
  function endedClaims(batch: Report[]): string[] {
    const handedIn = new Map<string, number>()
    for (const { claimId } of batch) handedIn.set(claimId, (handedIn.get(claimId) ?? 0) + 1)
    return [...open]
      .filter(([claim, steps]) => steps.size === (handedIn.get(claim) ?? 0))
      .map(([claim]) => claim)
  }

  function noteRefusals(rows: { kind: string }[]) {
    const fenced = rows.filter((row) => row.kind === 'fenced').length
    if (fenced > 0) log.warn({ refused: fenced }, 'late answers were refused: their claims are gone')
  }

  /** An exchange whose answer was lost may have claimed steps that nobody here knows of: they go back. */
  async function releaseStrayClaims() {
    const stray = await database.run((sql) => findStrayClaims(sql, podId, [...open.keys()]))
    if (stray.length > 0) {
      const released = stray.flatMap(({ id, step_ids, attempts: numbers }) =>
        step_ids.map((stepId, i) =>
          releaseReport(id, stepId, numbers[i] ?? 1, 'the answer to its claim was lost'),
        ),
      )
      await database.run((sql) =>
        settle(
          sql,
          podId,
          released,
          stray.map(({ id }) => id),
        ),
      )
      log.info({ steps: released.length }, 'released steps whose claim was answered to nobody')
      putBack()
    }
    answerLost = false
    strayCheckedAt = performance.now()
  }

  /** To the front of its lane, which lies before the marks: here as elsewhere. */
  function putBack() {
    marks.forget()
    options.onPutBack()
  }

  async function lookForCancelled() {
    // What an exchange under way brings was taken before the cancel, perhaps: look again when it is here.
    lookAfterTake = exchanging
    const held = [...attempts.keys(), ...waiting.map((step) => step.step_id)]
    if (held.length === 0) return
    const settled = await database.run((sql) => findSettledElsewhere(sql, held))
    for (const { step_id, status } of settled) {
      attempts.get(step_id)?.controller.abort(new Stop('cancelled', `the step is ${status}`))
      const next = waiting.findIndex((step) => step.step_id === step_id)
      for (const step of next < 0 ? [] : waiting.splice(next, 1)) {
        reports.push(releaseReport(step.claim_id, step.step_id, step.attempt, `the step is ${status}`))
        worker.ring()
      }
    }
  }

  function show() {
    options.onRunning(attempts.size, stuck.size)
  }

  /** An exchange under way may bring steps: a pod that left before its answer would leave them to recovery. */
  const isIdle = () => !exchanging && attempts.size === 0 && reports.length === 0 && waiting.length === 0

  function wakeIdle() {
    if (!isIdle()) return
    for (const wake of idle) wake()
    idle.clear()
  }

  return {
    loop: worker,
    get running() {
      return attempts.size
    },
    get stuck() {
      return stuck.size
    },
    ring: () => worker.ring(),
    forgetMarks() {
      marks.forget()
      worker.ring()
    },
    lookForCancelled,
    async refreshLimits() {
      // At each heartbeat: only a change is a reason to look for work before the next poll.
      if (await limits.refresh()) worker.ring()
    },
    stopClaiming() {
      claiming = false
    },
    resumeClaiming() {
      claiming = true
      worker.ring()
    },
    letGo(why, message) {
      if (why !== 'silence') leaving = message
      for (const step of waiting.splice(0))
        reports.push(releaseReport(step.claim_id, step.step_id, step.attempt, message))
      for (const { controller } of attempts.values()) controller.abort(new Stop(why, message))
      worker.ring()
    },
    async finish(limitMs) {
      if (isIdle()) return true
      return new Promise((resolve) => {
        const timer = setTimeout(() => {
          idle.delete(done)
          resolve(false)
        }, limitMs)
        const done = () => {
          clearTimeout(timer)
          resolve(true)
        }
        idle.add(done)
        worker.ring()
      })
    },
  }
}

const releaseReport = (claimId: string, stepId: string, attempt: number, why: string): Report => ({
  claimId,
  stepId,
  attempt,
  outcome: null,
  ended: 'released',
  result: null,
  error: JSON.stringify({ class: 'Released', message: why }),
  ranMs: 0,
  delayMs: 0,
  nextAttempt: attempt,
})

/** Time that `letGo` takes until every step is handed in, with a margin for the statement. */
export const LET_GO_LIMIT_MS = LET_GO_MS + 5000
