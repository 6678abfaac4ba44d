import { setTimeout as sleep } from 'node:timers/promises'
import { machineNow } from '../process/clock.ts'
import { withChildren, type Spawned } from '../process/spawn.ts'
import { withFilled } from '../server/copy.ts'
import {
  entries,
  NoFigure,
  type Bench,
  type Case,
  type Contender,
  type Entry,
  type Row,
  type Run,
} from './row.ts'

/** kill -9 of a worker that holds jobs: until all of them run on another. The quickest settings that are documented. */

const HELD = 8
const HOLD_MS = 120_000
const STARTED_WITHIN_MS = 30_000
/** So that each kill meets another moment of the timers of those who have to notice. */
const PHASE_MS = 2000

const FASTEST: Record<string, Record<string, string>> = {
  'fleet-q': {
    FLEET_Q_HEARTBEAT_SECONDS: '1',
    FLEET_Q_DEAD_AFTER_SECONDS: '3',
    FLEET_Q_RECOVERY_SECONDS: '1',
  },
  'bullmq-pg': { lockDuration: '1000', stalledInterval: '1000' },
}

export const kill: Row = {
  name: 'kill',
  about: 'kill -9 of a pod, its steps start elsewhere; heartbeat 1 s, dead after 3 s',
  cases: () => [toCase('kill', entries(['fleet-q'], 'eight', 3))],
}

export const kills: Row = {
  name: 'kills',
  about: 'ten times, and a peer beside it',
  byNameOnly: true,
  cases: () => [toCase('kills', entries(Object.keys(FASTEST), 'eight', 10))],
}

const toCase = (row: string, contenders: Entry[]): Case => ({
  row,
  title: `kill -9 of a worker that holds ${HELD}`,
  metrics: [
    { key: 'last', unit: 's until all run elsewhere', better: 'less' },
    { key: 'first', unit: 's until the first runs elsewhere', better: 'less' },
  ],
  contenders,
  measure: killOnce,
})

async function killOnce(contender: Contender, bench: Bench): Promise<Run> {
  const { adapter, profile } = contender
  return withFilled(bench.copies, contender, HELD, (url) =>
    withChildren([adapter.name, adapter.name], async ([victim, heir]) => {
      if (!victim || !heir) throw new Error('no process was started')
      const settings = FASTEST[adapter.name] ?? {}
      const work = { adapter: adapter.name, url, profile, jobs: HELD, holdMs: HOLD_MS, settings }
      // The eldest pod leads: the one that dies is the one that would have noticed.
      await victim.ask('work', work)
      await untilStarted(victim, 'the worker that is to die')
      await heir.ask('work', work)
      await sleep(PHASE_MS + Math.random() * PHASE_MS)
      const killedAt = machineNow()
      await victim.kill()
      await untilStarted(heir, 'the other worker')
      const { startedAt, runs } = await heir.ask('seen', undefined)
      if (runs.some((count) => count !== 1)) throw new NoFigure('a job started more than once on the heir')
      const seconds = [...startedAt].map((at) => (at - killedAt) / 1000)
      if (Math.min(...seconds) < 0) throw new NoFigure('a job ran on two workers before the kill')
      return { figures: { first: Math.min(...seconds), last: Math.max(...seconds) } }
    }),
  )
}

async function untilStarted(child: Spawned, who: string) {
  const until = machineNow() + STARTED_WITHIN_MS
  while (child.handled < HELD) {
    if (machineNow() > until)
      throw new NoFigure(`${child.handled} of ${HELD} ran on ${who} after ${STARTED_WITHIN_MS / 1000} s`)
    await sleep(10)
  }
}
