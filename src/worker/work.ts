import type { Database } from '../db/connect.ts'
import { isUnavailable, sqlState } from '../db/failure.ts'
import type { ExecutionParts } from '../execution/open-execution.ts'
import { settleExecutions, touchesWaits } from '../execution/settle-executions.ts'
import { pass } from '../kernel/failpoint.ts'
import type { Log } from '../kernel/log.ts'
import type { Meters } from '../kernel/meters.ts'
import type { ClaimedStep, DroppedSteps } from '../step/claim.sql.ts'
import { takeTurns, type Turn } from '../step/circle.ts'
import { exchange } from '../step/exchange.sql.ts'
import { findSettledElsewhere } from '../step/held.sql.ts'
import { settle, type RefusedReport, type Report } from '../step/settle.sql.ts'
import { carrier, type Carrier } from './carry.ts'
import { createLimitedClaims } from './claim-limited.ts'
import { createLookAhead } from './look-ahead.ts'
import { createMarks } from './marks.ts'
import type { Notes } from './notes.ts'
import { createOutbox, type Mail } from './outbox.ts'
import { releaseReport } from './outcome.ts'
import type { Registry } from './registry.ts'
import { createStrayRelease } from './release-stray.ts'
import { LET_GO_MS, Stop } from './run-attempt.ts'
import { createSlots } from './slots.ts'

export interface WorkerOptions {
  database: Database
  /** For ctx.tx: each handler may hold a connection for as long as it runs. */
  transactions: Pick<Database, 'begin'>
  podId: string
  registry: Registry
  capacity: number
  pollMs: number
  stepTimeoutMs: number
  notes: Notes
  executions: ExecutionParts
  meters: Meters
  log: Log
  mayClaim(): boolean
  /** Something lies in a lane again: tell whoever waits. */
  onPutBack(): void
  /** Something may start that could not before: tell the other pods. */
  onReady(): void
  /** A step of this pod is due again in so many milliseconds. */
  onDueIn(ms: number): void
  onRunning(running: number, stuck: number): void
}

export interface PodWorker {
  readonly loop: Carrier
  readonly running: number
  readonly stuck: number
  ring(): void
  /** Something was put to the front of a lane. */
  lookAtFronts(): void
  /** Looks whether steps that run here have been cancelled, or paused. */
  lookForCancelled(): Promise<void>
  /** Limits may have changed. */
  refreshLimits(): Promise<void>
  heardLimits(limitedTypes: string[]): void
  stopClaiming(): void
  resumeClaiming(): void
  /** Aborts every handler; their steps are released, or refused where the claim is gone. */
  letGo(why: 'shutdown' | 'silence' | 'fenced' | 'crash', message: string): void
  /** Fulfilled when no handler runs and everything is handed in, or after `limitMs`. True: all of it. */
  finish(limitMs: number): Promise<boolean>
}

const REPORTS_PER_EXCHANGE = 1000
const STEPS_PER_EXCHANGE = 500
/** One exchange is at the server while what another has brought runs here. A third only waits for the cores. */
const EXCHANGES_MAX = 2
/** From the beginning of each lane, for what committed late: seldom, and apart from other pods. */
const SWEEP_MS = 25_000
/** A pod that finds nothing looks again without marks, but not all the time: behind a pinned xmin horizon each
 * such look walks every dead entry. */
const IDLE_SWEEP_MS = 2000
const UNIQUE_VIOLATION = '23505'
const NO_LABEL = ['']
const CONTENDED_MS = 20
/** What was claimed ahead does not wait longer than this behind steps that turned out slow: others may be idle. */
const WAIT_AHEAD_MS = 250
/** Looked at twice: to a process that was frozen, or got no processor, its steps look old before they could end. */
const LOOK_TWICE_MS = 50
/** More handlers than this share of the capacity that ignore their abort: the pod is not healthy. */
export const STUCK_SHARE = 0.5

/** The claim loop: hands in what ended, takes what there are free slots for, in one statement. */
export function createWorker(options: WorkerOptions): PodWorker {
  const { database, podId, registry, capacity, meters, log } = options
  const types = [...registry.keys()]
  const marks = createMarks()
  const limits = createLimitedClaims(database, types)
  const outbox = createOutbox()
  const ahead = createLookAhead(capacity)
  const slots = createSlots({ ...options, database: options.transactions, onEnd, onRelieved: show })
  const strayClaims = createStrayRelease({
    database,
    podId,
    openClaims: () => outbox.openClaims(),
    onReleased: putBack,
    log,
  })
  let limitFreed = false
  let claiming = true
  let answerLost = false
  let lookAfterTake = false
  /** There may be steps in the lanes: somebody said so, or it is time. */
  let mayFind = true
  /** The last exchange brought all it asked for, or less. Both are false before the first. */
  let cameFull = false
  let cameShort = false
  /** Asked for by exchanges under way. */
  let asked = 0
  let sweptAt = performance.now()
  const sweepMs = SWEEP_MS * (0.8 + Math.random() * 0.4)
  let turns: readonly Turn[] = []
  let pollTimer: NodeJS.Timeout | undefined
  let aheadTimer: NodeJS.Timeout | undefined
  let lookedTwice = false
  const idle = new Set<() => void>()
  /** Set when this pod lets go for good: what an exchange under way still brings goes back unstarted. */
  let leaving: string | undefined

  const worker = carrier({
    name: 'exchange',
    tripsMax: EXCHANGES_MAX,
    // After a lost answer one goes alone: it looks for claims that nobody here knows of.
    hasCargo: () =>
      answerLost ? worker.underWay === 0 : outbox.hasMail || ((mayFind || cameFull) && freeSlots() > 0),
    async trip() {
      try {
        if (answerLost) {
          await strayClaims.releaseAll()
          answerLost = false
        } else await turn()
      } finally {
        show()
        setImmediate(wakeIdle)
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

  const freeSlots = () =>
    types.length > 0 && claiming && options.mayClaim()
      ? Math.min(capacity + ahead.steps - slots.running - slots.waiting - asked, STEPS_PER_EXCHANGE)
      : 0

  async function turn(): Promise<void> {
    const mail = outbox.take(REPORTS_PER_EXCHANGE)
    // What touches waits has a transaction of its own, which takes nothing: what lies there is looked for next.
    const looks = (mayFind || cameFull) && !touchesWaits(mail.reports)
    const free = looks ? Math.max(freeSlots(), 0) : 0
    const isLimitFreed = limitFreed
    limitFreed = false
    if (free > 0) {
      mayFind = false
      pollIn(options.pollMs * (0.9 + Math.random() * 0.2))
    }
    const goesShortWay = mail.reports.some((report) => !report.mayStand)
    asked += free
    const sentAt = performance.now()
    let rows
    try {
      const held = pass('exchange.before')
      if (held) await held
      rows = await send(mail, free)
      const met = pass('exchange.after')
      if (met) await met
    } catch (error) {
      outbox.returned(mail)
      if (isLimitFreed) limitFreed = true
      if (free > 0) mayFind = true
      // All of it was undone, and is known to be: what it carried goes the long way, at once. On that way it is a failure
      // like any other, or the pod would turn on it without a rest.
      if (sqlState(error) === UNIQUE_VIOLATION && goesShortWay) return
      throw error
    } finally {
      asked -= free
    }
    outbox.delivered(mail)
    meters.exchangeSeconds.observe(free > 0 ? 'claim' : 'settle', (performance.now() - sentAt) / 1000)
    receive(mail, rows, free)
    if (isLimitFreed) options.onReady()
    if (free > 0) await claimLimited(free)
    await strayClaims.ifDue()
  }

  function send(mail: Mail, free: number): Promise<(ClaimedStep | RefusedReport | DroppedSteps)[]> {
    if (touchesWaits(mail.reports)) return settleWaits(mail)
    if (free === 0) return database.run((sql) => settle(sql, podId, mail.reports, mail.ended))
    sweepIfDue()
    const want = { podId, types, limit: free, turns, ...marks.all() }
    return database.run((sql) => exchange(sql, want, mail.reports, mail.ended))
  }

  async function settleWaits({ reports, ended }: Mail): Promise<RefusedReport[]> {
    const { refused, woken } = await settleExecutions(database, podId, reports, ended)
    if (woken > 0) tellWoken()
    return refused
  }

  /** Executions may go on, here and elsewhere. */
  function tellWoken() {
    mayFind = true
    options.onReady()
  }

  function receive({ reports }: Mail, rows: (ClaimedStep | RefusedReport | DroppedSteps)[], free: number) {
    if (reports.some(({ ended }) => ended === 'released')) putBack()
    for (const { delayMs } of reports) {
      if (delayMs !== null && delayMs > 0) options.onDueIn(delayMs)
      if (delayMs === 0) mayFind = true
    }
    noteRefusals(rows)
    if (free === 0) return
    const claimed = rows.filter((row): row is ClaimedStep => row.kind === 'claimed')
    take(claimed)
    // Cancelled steps lay in front: thousands of them must not cost a rest for every few.
    const dropped = rows.some((row) => row.kind === 'dropped')
    cameShort = claimed.length < free && !dropped
    cameFull = !cameShort
    if (cameShort && marks.any()) pollIn(Math.min(IDLE_SWEEP_MS, options.pollMs))
    if (claimed.length === free) ahead.grow()
  }

  /** From types with a limit in the fleet; a pod whose types have none pays nothing. */
  async function claimLimited(free: number) {
    const limit = Math.min(free, capacity - slots.running - slots.waiting)
    const more = await limits.claim({ podId, limit, turns })
    take(more.steps)
    if (more.dropped || (limit > 0 && more.steps.length === limit)) mayFind = true
    // Another pod held the lock of a limit: it is free again in a moment.
    if (more.contended) pollIn(CONTENDED_MS)
  }

  function pollIn(ms: number) {
    clearTimeout(pollTimer)
    pollTimer = setTimeout(ring, ms)
    pollTimer.unref()
  }

  function ring() {
    mayFind = true
    worker.ring()
  }

  function sweepIfDue() {
    const dueMs = cameShort ? IDLE_SWEEP_MS : sweepMs
    if (performance.now() - sweptAt < dueMs) return
    marks.forget()
    sweptAt = performance.now()
  }

  function take(claimed: ClaimedStep[]) {
    if (claimed.length === 0) return
    meters.claimed.add(NO_LABEL, claimed.length)
    marks.took(claimed, performance.now())
    turns = takeTurns(turns, claimed)
    for (const step of claimed) outbox.opened(step.claim_id)
    if (leaving !== undefined) return release(claimed, leaving)
    slots.put(claimed)
    if (slots.waiting > 0) aheadTimer ??= setTimeout(releaseExcess, WAIT_AHEAD_MS)
  }

  /** Steps claimed ahead, for which no slot fell free: another pod may have one. */
  function releaseExcess() {
    aheadTimer = undefined
    const restMs = WAIT_AHEAD_MS - slots.waitMs()
    const isDoubtful = restMs <= 0 && !lookedTwice
    lookedTwice = isDoubtful
    if (restMs > 0 || isDoubtful) {
      if (slots.waiting > 0) aheadTimer = setTimeout(releaseExcess, Math.max(restMs, LOOK_TWICE_MS))
      return
    }
    const excess = slots.takeBack('excess')
    if (excess.length === 0) return
    ahead.shrink()
    release(excess, 'it was claimed ahead, and the slots of its pod stayed busy')
  }

  function release(steps: ClaimedStep[], why: string) {
    for (const step of steps) outbox.add(releaseReport(step.claim_id, step.step_id, step.attempt, why))
    worker.ring()
  }

  function onEnd(step: ClaimedStep, report: Report | undefined, ranMs: number) {
    ahead.ran(ranMs)
    meters.attemptSeconds.observe(step.type, ranMs / 1000)
    meters.ended.add([step.type, report?.outcome ?? report?.ended ?? 'completed'])
    if (limits.has(step.type)) {
      limitFreed = true
      // Another of its type may start now, here as well.
      mayFind = true
    }
    if (report) outbox.add(report)
    else {
      outbox.closed(step.claim_id)
      if (step.has_parent) tellWoken()
    }
    worker.ring()
  }

  function show() {
    options.onRunning(slots.running, slots.stuck)
  }

  function noteRefusals(rows: { kind: string }[]) {
    const fenced = rows.filter((row) => row.kind === 'fenced').length
    if (fenced > 0) meters.refused.add(NO_LABEL, fenced)
    if (fenced > 0) log.warn({ refused: fenced }, 'late answers were refused: their claims are gone')
  }

  /** To the front of its lane, which has marks of its own: here as elsewhere. */
  function putBack() {
    marks.forgetFronts()
    mayFind = true
    options.onPutBack()
  }

  async function lookForCancelled() {
    // What an exchange under way brings was taken before the cancel, perhaps: look again when it is here.
    lookAfterTake = worker.underWay > 0
    const held = slots.held()
    if (held.length === 0) return
    const settled = await database.run((sql) => findSettledElsewhere(sql, held))
    for (const { step_id, status } of settled) {
      const attempt = slots.find(step_id)
      if (status === 'undo') {
        attempt?.stopToUndo()
        continue
      }
      if (status === 'paused') attempt?.hold()
      else attempt?.stop(new Stop('cancelled', `the step is ${status}`))
      release(slots.takeBack({ step: step_id }), `the step is ${status}`)
    }
  }

  /** An exchange under way may bring steps: a pod that left before its answer would leave them to recovery. */
  const isIdle = () => worker.underWay + slots.running + slots.waiting === 0 && outbox.isEmpty

  function wakeIdle() {
    if (!isIdle()) return
    for (const wake of idle) wake()
    idle.clear()
  }

  return {
    loop: worker,
    get running() {
      return slots.running
    },
    get stuck() {
      return slots.stuck
    },
    ring,
    lookAtFronts() {
      marks.forgetFronts()
      ring()
    },
    lookForCancelled,
    async refreshLimits() {
      if (await limits.refresh()) ring()
    },
    heardLimits(limitedTypes) {
      // At each beat: only a change is a reason to look for work.
      if (limits.heard(limitedTypes)) ring()
    },
    stopClaiming() {
      claiming = false
    },
    resumeClaiming() {
      claiming = true
      ring()
    },
    letGo(why, message) {
      if (why !== 'silence') leaving = message
      release(slots.takeBack('all'), message)
      slots.stop(new Stop(why, message))
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

/** Time that `letGo` takes until every step is handed in, with a margin for the statement. */
export const LET_GO_LIMIT_MS = LET_GO_MS + 5000
