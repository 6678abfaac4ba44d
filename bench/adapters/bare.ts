import { connect, type Database } from '../../src/db/connect.ts'
import { registerPod } from '../../src/pod/pod.sql.ts'
import { exchange } from '../../src/step/exchange.sql.ts'
import { findLanes, insertSteps, type NewStep } from '../../src/step/submit.sql.ts'
import type { Adapter, Job } from './adapter.ts'
import { fleetQ } from './fleet-q.ts'

/** The limit: our own statements in a loop without handlers, timers, heartbeats or anything else of a pod. */

type Report = Parameters<typeof exchange>[2][number]
type ClaimedStep = Extract<Awaited<ReturnType<typeof exchange>>[number], { kind: 'claimed' }>

const STEPS_PER_CLAIM = 500
/** In flight: while one statement runs, the answer to the other is read. */
const CONNECTIONS = 2
const CONNECTIONS_TO_SUBMIT = 16
const IDLE_MS = 20

const open = (url: string, max: number): Database =>
  connect({ url, name: 'bare', max, pooler: false, deadlineMs: 30_000 })

/** It runs no handler. */
const NO_TIME = { startedMs: 0 }
/** Nobody gives steps back to it. */
const NOTHING_IN_FRONT = { frontLanes: [] as number[], frontPositions: [] as string[] }

const reportOf = (step: ClaimedStep): Report => ({
  ...NO_TIME,
  claimId: step.claim_id,
  stepId: step.step_id,
  attempt: step.attempt,
  outcome: 'completed',
  ended: null,
  result: JSON.stringify({ n: step.args['n'] }),
  error: null,
  delayMs: null,
  nextAttempt: null,
})

async function register(database: Database): Promise<string> {
  const [row] = await database.run((sql) =>
    registerPod(sql, {
      publicId: `bare-${process.pid}`,
      name: 'bare',
      version: '0',
      types: ['job'],
      capacity: STEPS_PER_CLAIM,
      deadAfterMs: 600_000,
      leaderEligible: false,
    }),
  )
  if (!row) throw new Error('the bare loop was not registered')
  return row.id
}

export const bare: Adapter = {
  ...fleetQ,
  name: 'bare',
  less: 'our statements in a loop: runs no handlers, can do nothing else',
  profiles: { throughput: `${STEPS_PER_CLAIM} a claim, ${CONNECTIONS} in flight` },
  load: () => Promise.resolve(),
  async work({ url, onJob }) {
    const database = open(url, CONNECTIONS)
    const podId = await register(database)
    let stopped = false
    // Whatever lies before it was taken by this process or is locked by another.
    let mark: { lane: number; position: bigint } | undefined

    async function run() {
      let held: ClaimedStep[] = []
      while (!stopped) {
        const want = {
          podId,
          types: ['job'],
          limit: STEPS_PER_CLAIM,
          turns: [],
          markLanes: mark ? [mark.lane] : [],
          markPositions: mark ? [String(mark.position)] : [],
          ...NOTHING_IN_FRONT,
          frontLanes: [],
          frontPositions: [],
        }
        const claims = held[0] ? [held[0].claim_id] : []
        const rows = await database.run((sql) => exchange(sql, want, held.map(reportOf), claims))
        held = rows.filter((row): row is ClaimedStep => row.kind === 'claimed')
        for (const { args } of held) void onJob((args as unknown as Job).n)
        const last = held.at(-1)
        if (last && (!mark || BigInt(last.position) > mark.position))
          mark = { lane: last.lane_id, position: BigInt(last.position) }
        if (!last) await new Promise((resolve) => setTimeout(resolve, IDLE_MS))
      }
    }
    const loops = Array.from({ length: CONNECTIONS }, run)
    for (const loop of loops) loop.catch((error: unknown) => process.stderr.write(`${String(error)}\n`))
    return {
      async stop() {
        stopped = true
        await Promise.all(loops)
        await database.close()
      },
    }
  },
  async produce(url) {
    const database = open(url, CONNECTIONS_TO_SUBMIT)
    const [lane] = await database.run((sql) => findLanes(sql, [{ type: 'job', priority: 0, key: '' }]))
    if (!lane) throw new Error('the lane was not made')
    let salt = 0
    const row = (args: Job): NewStep => ({
      laneId: lane.id,
      salt: String(++salt),
      maxRetries: 3,
      timeoutMs: null,
      runAt: null,
      delayMs: null,
      expiresAt: null,
      args: JSON.stringify(args),
      metadata: null,
      retry: null,
      tags: null,
      parentId: null,
      detached: false,
    })
    return {
      submit: (job) => database.run((sql) => insertSteps(sql, [row(job)])),
      submitMany: (jobs) => database.run((sql) => insertSteps(sql, jobs.map(row))),
      close: () => database.close(),
    }
  },
}
