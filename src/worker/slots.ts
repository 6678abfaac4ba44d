import type { ClaimedStep } from '../step/claim.sql.ts'
import type { Report } from '../step/settle.sql.ts'
import type { Registry } from './registry.ts'
import { Attempt, type AttemptDeps, type Stop } from './run-attempt.ts'

export interface SlotsOptions extends Pick<
  AttemptDeps,
  'database' | 'podId' | 'notes' | 'stepTimeoutMs' | 'executions'
> {
  capacity: number
  registry: Registry
  /** An attempt ended after so many milliseconds; no report where it is handed in already. */
  onEnd(step: ClaimedStep, report: Report | undefined, ranMs: number): void
  /** One that was stuck is over. */
  onRelieved(): void
}

/** The handlers that run here, and the line of steps that are claimed and wait for a slot. */
export interface Slots {
  readonly running: number
  readonly waiting: number
  /** How long the first of the line has been waiting. */
  waitMs(): number
  /** Handlers that were told to stop, are handed in, and run on. */
  readonly stuck: number
  put(steps: ClaimedStep[]): void
  /** Keys of everything that is held here. */
  held(): string[]
  find(stepId: string): Attempt | undefined
  /** Out of the line: one step, or what is too much for the slots, or all. */
  takeBack(which: { step: string } | 'excess' | 'all'): ClaimedStep[]
  /** Tells every handler to stop. */
  stop(reason: Stop): void
}

export function createSlots(options: SlotsOptions): Slots {
  const { capacity, registry, onEnd } = options
  const attempts = new Map<string, Attempt>()
  const stuck = new Set<Attempt>()
  /** Of types that may have only so many at once on this pod. */
  const runningOf = new Map<string, number>()
  let line: ClaimedStep[] = []
  /** When the claims came that have steps in the line. */
  const arrivedMs = new Map<string, number>()
  let unlimited: Attempt[] = []
  let filling = false

  const deps: AttemptDeps = {
    ...options,
    handIn(attempt, report) {
      const { step } = attempt
      attempts.delete(step.step_id)
      const same = runningOf.get(step.type)
      if (same !== undefined) runningOf.set(step.type, same - 1)
      // Its slot is free, but it is counted until it ends.
      if (!attempt.over) stuck.add(attempt)
      onEnd(step, report, performance.now() - attempt.startedMs)
      fill()
    },
    onOver(attempt) {
      if (stuck.delete(attempt)) options.onRelieved()
    },
  }

  function fill() {
    // A handler that ends at once comes back here: the loop that started it goes on, the stack does not grow.
    if (filling) return
    filling = true
    let begun = 0
    while (attempts.size < capacity && begun < line.length) {
      const step = line[begun]
      if (step && mayStart(step)) {
        begun++
        start(step)
      } else {
        // Its type has as many as it may: the first behind it that can.
        const next = line.findIndex((other, place) => place > begun && mayStart(other))
        if (next < 0) break
        for (const other of line.splice(next, 1)) start(other)
      }
    }
    line = begun === line.length ? [] : line.slice(begun)
    if (line.length === 0) arrivedMs.clear()
    filling = false
  }

  function mayStart({ type }: ClaimedStep): boolean {
    const limit = registry.get(type)?.definition.concurrency
    return limit === undefined || (runningOf.get(type) ?? 0) < limit
  }

  function start(step: ClaimedStep) {
    const handled = registry.get(step.type)
    if (!handled) throw new Error(`claimed a step of type ${step.type}, which this pod does not handle`)
    if (handled.definition.concurrency !== undefined)
      runningOf.set(step.type, (runningOf.get(step.type) ?? 0) + 1)
    const attempt = new Attempt(step, handled, deps)
    attempts.set(step.step_id, attempt)
    attempt.start()
    if (attempt.isEnded) return
    if (unlimited.length === 0) setImmediate(limitTimes)
    unlimited.push(attempt)
  }

  /** Time limits are set one turn later: most handlers that are that short have ended by then. */
  function limitTimes() {
    const started = unlimited
    unlimited = []
    for (const attempt of started) attempt.limitTime()
  }

  return {
    get running() {
      return attempts.size
    },
    get waiting() {
      return line.length
    },
    get stuck() {
      return stuck.size
    },
    waitMs() {
      const [first] = line
      // The line is served in order: claims before that of its first step have none in it any more.
      for (const claim of arrivedMs.keys()) {
        if (claim === first?.claim_id) break
        arrivedMs.delete(claim)
      }
      return first ? performance.now() - (arrivedMs.get(first.claim_id) ?? 0) : 0
    },
    put(steps) {
      for (const { claim_id } of steps.slice(0, 1)) arrivedMs.set(claim_id, performance.now())
      line = line.length === 0 ? steps : [...line, ...steps]
      fill()
    },
    held: () => [...attempts.keys(), ...line.map((step) => step.step_id)],
    find: (stepId) => attempts.get(stepId),
    takeBack(which) {
      if (which === 'all') return line.splice(0)
      if (which === 'excess') return line.splice(Math.max(capacity - attempts.size, 0))
      const place = line.findIndex((step) => step.step_id === which.step)
      return place < 0 ? [] : line.splice(place, 1)
    },
    stop(reason) {
      for (const attempt of attempts.values()) attempt.stop(reason)
    },
  }
}
