import { setTimeout as pause } from 'node:timers/promises'
import type { z } from 'zod'
import type { Client } from '../client.ts'
import type { Database } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import type { Execution, StartExecution } from '../execution/execution.schema.ts'
import { parsePublicId } from '../step/step.ts'
import { callDue, type FleetClock } from './clock.ts'
import type { Crashes, CrashTime } from './crash.ts'
import { endSleepInTime, whereIs } from './test-fleet.sql.ts'

type Named = 'execution_id' | 'executionId' | 'task_name' | 'taskName' | 'payload'

/** As the door takes it, with a shorter name for its id: a chosen one, or else that of its step. */
export interface StartOptions extends Omit<z.input<typeof StartExecution>, Named> {
  id?: string
}

/** Where an execution has come to rest. */
export interface AtRest {
  status: Execution['status']
  /** Names of what it sleeps over or waits for. */
  waitingFor: string[]
  /** When it goes on by itself; null where it never does, or has ended. */
  dueAt: Date | null
}

/** An execution in the hands of its test. */
export interface TestExecution {
  readonly id: string
  readonly stepId: string
  /** Until it sleeps, waits, is parked or has ended. */
  untilAsleep(): Promise<AtRest>
  /** Moves the clock of the fleet to the end of what it sleeps over; fulfilled when it is at rest again. */
  skipSleep(): Promise<AtRest>
  /** True: it was asleep over it, and goes on. Else it is kept until it is asked for. */
  send(event: string, payload?: unknown): Promise<boolean>
  /** The next time that it comes to this checkpoint its attempt dies, as with its pod; another one replays. */
  crashAt(checkpoint: string, when: CrashTime): Promise<void>
  /**
   * What it returned. Rejected with an ExecutionFailed where it failed or was cancelled. Rejected as well where it never
   * came to the checkpoint at which it was to crash: such a test would prove nothing.
   */
  result(): Promise<unknown>
  /** Its checkpoints, as the door shows them. */
  history(): Promise<Execution['steps']>
}

/** An execution ended without a result. */
export class ExecutionFailed extends Error {
  override readonly name = 'ExecutionFailed'
  readonly status: string
  readonly error: Execution['error']

  constructor({ execution_id, status, error }: Execution) {
    super(
      `${execution_id} ${status === 'failed' ? 'failed' : `was ${status}`}: ${error?.message ?? 'no reason'}`,
    )
    this.status = status
    this.error = error
  }
}

export interface FleetParts {
  client: Client
  database: Database
  clock: FleetClock
  crashes: Crashes
}

/** Nobody waits for longer, by the clock on the wall. */
const PATIENCE_MS = 60_000
const LOOK_EVERY_MAX_MS = 50

export function testExecution(
  { client, database, clock, crashes }: FleetParts,
  { execution_id: id, step_id: stepId }: Execution,
): TestExecution {
  const key = parsePublicId(stepId)?.id ?? ''
  const show = () => client.getExecution({ execution_id: id })

  async function look() {
    const [place] = await database.run((sql) => whereIs(sql, key))
    if (!place)
      throw new FleetError('execution_not_found', `${id} is past its retention: nothing is known of it.`)
    const [late] = place.asleep ? await database.run((sql) => endSleepInTime(sql, key)) : []
    if (!late) return place
    if (late.over) await callDue(database)
    return { ...place, asleep: !late.over, due_at: late.due_at }
  }

  async function until(isThere: (place: Awaited<ReturnType<typeof look>>) => boolean, what: string) {
    const end = performance.now() + PATIENCE_MS
    for (let restMs = 1; ; restMs = Math.min(restMs * 2, LOOK_EVERY_MAX_MS)) {
      const place = await look()
      if (isThere(place)) return place
      if (performance.now() > end) throw new FleetError('timeout', await stillThere(what))
      await pause(restMs)
    }
  }

  async function stillThere(what: string): Promise<string> {
    const { status, waiting_for, scheduled_at } = await show()
    const waits = waiting_for.length === 0 ? '' : `, and waits for ${waiting_for.join(', ')}`
    const due = scheduled_at === null ? '' : `, due at ${scheduled_at}`
    return `${id} ${what} within ${PATIENCE_MS / 1000} s: it is ${status}${waits}${due}. It is now ${clock.now().toISOString()}.`
  }

  async function untilAsleep(): Promise<AtRest> {
    const { ended, due_at } = await until((place) => place.ended || place.asleep, 'did not come to rest')
    const { status, waiting_for } = await show()
    return { status, waitingFor: waiting_for, dueAt: ended ? null : due_at }
  }

  return {
    id,
    stepId,
    untilAsleep,
    async skipSleep() {
      const { dueAt, waitingFor, status } = await untilAsleep()
      if (dueAt === null)
        throw new FleetError(
          'wrong_state',
          waitingFor.length === 0
            ? `${id} does not sleep: it is ${status}.`
            : `No time moves ${id} on: it waits for ${waitingFor.join(', ')}.`,
        )
      await clock.advanceTo(key)
      return untilAsleep()
    },
    async send(event, payload) {
      const { delivered } = await client.sendEvent({ execution_id: id, event_name: event, payload })
      return delivered
    },
    async crashAt(checkpoint, when) {
      const { status, completed_at } = await show()
      if (completed_at !== null)
        throw new FleetError(
          'wrong_state',
          `${id} has ended (${status}), and comes to no checkpoint any more.`,
        )
      crashes.at(key, checkpoint, when)
    },
    async result() {
      await until((place) => place.ended, 'has not ended')
      const ended = await show()
      if (ended.status !== 'completed') throw new ExecutionFailed(ended)
      const awaited = crashes.awaited(key)
      if (awaited !== undefined) {
        const names = [...new Set(ended.steps.map(({ name }) => name))].join(', ') || 'none'
        throw new FleetError(
          'wrong_state',
          `${id} did not come to "${awaited}" after crashAt asked for it, and has completed. Its checkpoints: ${names}. ` +
            'Is the name right? If it came by before: ask while it is asleep, or start it with delay_seconds.',
        )
      }
      return ended.result
    },
    history: async () => (await show()).steps,
  }
}
