import { repeatOnConflict, type Database, type Sql } from '../db/connect.ts'
import { FleetError } from '../errors.ts'
import { parseDuration } from '../kernel/duration.ts'
import { callOut } from '../pod/hints.ts'
import type { Duration } from '../step/durable.ts'
import { findNow } from '../step/why.sql.ts'
import {
  findDueMs,
  holdHearts,
  makeClockTable,
  moveAlong,
  moveClock,
  replaceClock,
  startAtNow,
} from './test-fleet.sql.ts'

/** The clock of a whole fleet, which its test moves. */
export interface FleetClock {
  now(): Date
  advance(span: Duration): Promise<void>
  /** To the very moment at which this step is due. */
  advanceTo(stepId: string): Promise<void>
}

/** Ten years: no sleep and no delay is longer. */
export const AHEAD_DAYS_MAX = 3650
const AHEAD_MS_MAX = AHEAD_DAYS_MAX * 86_400_000

/** `isOurs`: the database was made for this fleet, and goes with it. */
export async function startClock(database: Database, isOurs: boolean): Promise<FleetClock> {
  if (isOurs)
    await database.begin(async (tx) => {
      await makeClockTable(tx)
      await startAtNow(tx)
      await replaceClock(tx)
    })
  const [began] = await database.run(findNow)
  const beganAt = performance.now()
  let aheadMs = 0

  /** In one transaction: whoever reads the new time reads what has moved along with it. */
  const move = (spanMs: (tx: Sql) => Promise<number>) =>
    repeatOnConflict(() =>
      database.begin(async (tx) => {
        await holdHearts(tx)
        const ms = await spanMs(tx)
        const [clock] = await moveClock(tx, ms)
        await moveAlong(tx, ms)
        if (clock && clock.ahead_ms <= AHEAD_MS_MAX) return clock.ahead_ms
        throw new FleetError(
          'invalid_input',
          `The clock of a test may be ${AHEAD_DAYS_MAX} days ahead, no more.`,
        )
      }),
    )

  async function jump(spanMs: (tx: Sql) => Promise<number>) {
    if (!isOurs) throw new FleetError('wrong_state', NOT_OURS)
    aheadMs = Math.max(aheadMs, await move(spanMs))
    await callDue(database)
  }

  return {
    now: () => new Date((began?.now.getTime() ?? 0) + performance.now() - beganAt + aheadMs),
    async advance(span) {
      const ms = msOf(span)
      await jump(() => Promise.resolve(ms))
    },
    advanceTo: (stepId) =>
      jump(async (tx) => {
        const [step] = await findDueMs(tx, stepId)
        return Math.max(step?.due_ms ?? 0, 0)
      }),
  }
}

const NOT_OURS =
  'The clock is that of a whole database, and this one is yours: everything in it would grow older, and stay so where a test is cut off. Leave databaseUrl out; the fleet then has a Postgres of its own.'

/** Who calls out is no pod: all of them hear it. */
const NOBODY = '0'

/** Something may be due: what slept, and what was paused until a time. */
export async function callDue(database: Database) {
  await callOut(database, NOBODY, 'due')
  await callOut(database, NOBODY, 'ready')
}

/** Something lies at the front of its lane, before the marks. */
export const callFront = (database: Database) => callOut(database, NOBODY, 'forget')

function msOf(span: Duration): number {
  const ms = typeof span === 'number' ? span : parseDuration(span)
  if (Number.isFinite(ms) && ms >= 0) return ms
  throw new FleetError('invalid_input', `${ms} is no span of time: a clock goes forward, by milliseconds.`)
}
