import { readFileSync } from 'node:fs'
import { awaitDatabase, connect, type Database } from '../db/connect.ts'
import { inWords } from '../db/failure.ts'
import { listen } from '../db/listen.ts'
import { migrate } from '../db/migrate.ts'
import type { Config } from '../config.ts'
import { isLoopback, podName } from '../config.ts'
import { serveHttp } from '../http/listen.ts'
import { fleetDoor } from '../http/routes/fleet-door.ts'
import { createApp } from '../http/server.ts'
import { newPodId } from '../kernel/ids.ts'
import type { Log } from '../kernel/log.ts'
import { loop } from '../kernel/loop.ts'
import { createLeadership, type Chore } from '../leader/lead.ts'
import { createHeartbeat } from '../pod/heartbeat.ts'
import { CHANNEL, createHints, parseHint } from '../pod/hints.ts'
import { endPod, registerPod, startDraining } from '../pod/pod.sql.ts'
import { recover } from '../recovery/recover.ts'
import type { CycleSummary } from '../recovery/run-cycle.ts'
import { createForgetter } from '../step/forget.ts'
import { promote } from '../step/promote.ts'
import { createSubmitter } from '../step/submit.ts'
import { capacityOf } from '../worker/capacity.ts'
import { createNotes } from '../worker/notes.ts'
import { createRegistry, type Handled } from '../worker/registry.ts'
import { currentAttempt } from '../worker/run-attempt.ts'
import { createWorker, LET_GO_LIMIT_MS, STUCK_SHARE } from '../worker/work.ts'

export const VERSION: string = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version

export interface PodOptions {
  config: Config
  /** Where the steps lie; a pod without DATABASE_URL has started a Postgres of its own by now. */
  databaseUrl: string
  steps: Handled[]
  log: Log
  /** This pod does not count any more: declared dead, or its heart failed. The process is to end. */
  onFenced(): void
  onCycle?(summary: CycleSummary): void
}

export interface Pod {
  readonly id: string
  readonly address: { host: string; port: number }
  readonly migrated: number[]
  readonly types: string[]
  readonly capacity: number
  /** Finishes what it can within the grace period, releases the rest, says goodbye. */
  stop(why?: string): Promise<void>
  /** An exception that nobody caught: blames the attempt it came from, releases the others, ends quickly. */
  crash(error: unknown): Promise<void>
}

const PROMOTE_LEADER_MS = 1000
const PROMOTE_OTHERS_MS = 10_000
const FORGET_EVERY_MS = 60_000
const DATABASE_WAIT_MS = 10_000
const CRASH_LIMIT_MS = 2000

/** Builds every part once, starts them in order, stops them in reverse: the one place where they meet. */
export async function startPod(options: PodOptions): Promise<Pod> {
  const { config, databaseUrl, log } = options
  const publicId = newPodId(podName(config))
  const capacity = capacityOf(config.maxParallelism, config.capacityPercent)
  const registry = createRegistry(options.steps)
  const deadAfterMs = config.deadAfterSeconds * 1000
  const heartbeatMs = config.heartbeatSeconds * 1000

  const pool = (name: string, max: number, deadlineMs: number): Database =>
    connect({
      url: databaseUrl,
      name: `fleet-q ${name} ${publicId}`.slice(0, 63),
      max,
      pooler: config.databasePooler,
      deadlineMs,
      onDiscard: (reason) => log.warn({ pool: name, reason }, 'connections were given up'),
    })
  // Apart, so that slow questions of people cannot starve the work. A handler's transaction has a connection to itself.
  const work = pool('work', Math.max(2, Math.ceil(config.databasePoolMax / 2)), 10_000)
  const door = inWords(pool('door', Math.max(1, Math.floor(config.databasePoolMax / 2)), 5000))
  const transactions = pool('transactions', capacity, 10_000)
  const pools = [work, door, transactions]

  try {
    await awaitDatabase(work, DATABASE_WAIT_MS, (error) => log.warn({ err: error }, 'waiting for the database'))
    const { applied } = await migrate(work)
    return await run(applied)
  } catch (error) {
    await Promise.all(pools.map((each) => each.close()))
    throw error
  }

  async function run(migrated: number[]): Promise<Pod> {
    const [row] = await work.run((sql) =>
      registerPod(sql, {
        publicId,
        name: podName(config),
        version: VERSION,
        types: [...registry.keys()],
        capacity,
        deadAfterMs,
        leaderEligible: config.leaderEligible,
      }),
    )
    if (!row) throw new Error('the pod was not registered')
    const podId = row.id
    const bornAt = performance.now()
    let phase: 'starting' | 'ready' | 'draining' | 'stopped' = 'starting'
    let drainWanted = false

    const say = createHints(work, podId)
    const notes = createNotes(work, log)
    const worker = createWorker({
      database: work,
      transactions,
      podId,
      registry,
      capacity,
      pollMs: config.pollSeconds * 1000,
      stepTimeoutMs: config.stepTimeoutSeconds * 1000,
      notes,
      log,
      mayClaim: () => heartbeat.mayClaim(),
      onPutBack: () => say('forget'),
      onDueIn(ms) {
        if (ms < PROMOTE_OTHERS_MS) setTimeout(() => promoter.ring(), ms + 5).unref()
      },
      onRunning: (running, stuck) => heartbeat.show(running, stuck),
    })

    const forgetter = createForgetter(work, config.retentionDays * 86_400)
    const chores: Chore[] = [
      { name: 'recovery', run: (term) => recover({ database: work, podId, onCycle: tellCycle }, term) },
      { name: 'retention', run: atMostEvery(FORGET_EVERY_MS, () => forgetter.round()) },
    ]
    const leadership = createLeadership({
      database: work,
      podId,
      eligible: config.leaderEligible,
      roundMs: config.recoverySeconds * 1000,
      chores,
      log,
      lookAgainIn: (ms) => void setTimeout(() => heartbeat.beatNow(), ms).unref(),
      onChange: () => promoter.ring(),
    })
    const promoter = loop({
      name: 'promote',
      everyMs: PROMOTE_OTHERS_MS,
      async run() {
        const { moved, nextMs } = await promote(work)
        if (moved > 0) {
          worker.ring()
          say('ready')
        }
        const mostMs = leadership.term === undefined ? PROMOTE_OTHERS_MS * (0.8 + Math.random() * 0.4) : PROMOTE_LEADER_MS
        return Math.min(mostMs, Math.max(nextMs ?? mostMs, 5))
      },
      onError: (error) => log.debug({ err: error }, 'due steps were not moved'),
    })

    const heartbeat = createHeartbeat({
      url: databaseUrl,
      pooler: config.databasePooler,
      podId,
      publicId,
      heartbeatMs,
      deadAfterMs,
      stallMs: config.stallSeconds * 1000,
      log,
      onBeat(beat) {
        leadership.onBeat(beat)
        if (beat.drain_wanted !== drainWanted) {
          drainWanted = beat.drain_wanted
          log.info({}, drainWanted ? 'draining: an operator wishes it' : 'taking steps again')
          if (!drainWanted) worker.ring()
        }
        void worker.lookForCancelled().catch(() => {})
      },
      onFenced() {
        if (phase === 'stopped') return
        log.error({ pod: publicId }, 'this pod was declared dead: it aborts its handlers and ends')
        void fenced()
      },
      onSilence() {
        log.warn({}, 'no heartbeat was confirmed for too long: handlers are aborted before others may take over')
        worker.letGo('silence', 'the pod could not report to the database for too long')
      },
    })

    const doorbell = listen({
      url: databaseUrl,
      name: `fleet-q listen ${publicId}`.slice(0, 63),
      channel: CHANNEL,
      onMessage(payload) {
        const hint = parseHint(payload)
        if (hint?.kind === 'ready') worker.ring()
        else if (hint?.kind === 'forget') worker.forgetMarks()
        else if (hint?.kind === 'cancel') void worker.lookForCancelled().catch(() => {})
        else if (hint?.kind === 'recover') leadership.ring()
        else if (hint?.kind === 'drain') heartbeat.beatNow()
      },
      onConnect: () => worker.ring(),
      onError: (error) => log.debug({ err: error }, 'notifications are not to be had; polling goes on'),
    })

    const submitter = createSubmitter({
      database: door,
      onSubmitted(types) {
        if (types.some((type) => registry.has(type))) worker.ring()
        say('ready')
      },
    })

    const loops = [worker.loop, leadership.loop, promoter]
    const tokens = config.tokens.map((pair) => {
      const colon = pair.indexOf(':')
      return { role: pair.slice(0, colon) as 'admin', token: pair.slice(colon + 1) }
    })
    const app = createApp({
      tokens,
      openAccess: tokens.length === 0,
      hosts: isLoopback(config.apiHost) ? [] : 'any',
      log,
      version: VERSION,
      handlers: fleetDoor({
        database: door,
        submitter,
        registry,
        podId,
        publicId,
        version: VERSION,
        capacity,
        say,
        onReady: () => worker.ring(),
        onCancelled: () => void worker.lookForCancelled().catch(() => {}),
        onCycle: tellCycle,
        term: () => leadership.term,
        vitals: () => ({
          phase: drainWanted && phase === 'ready' ? 'draining' : phase,
          uptimeSeconds: (performance.now() - bornAt) / 1000,
          running: worker.running,
          stuck: worker.stuck,
          healthy: worker.stuck <= capacity * STUCK_SHARE,
          beatAgeMs: heartbeat.lastBeatAgeMs(),
          heartbeatMs,
          loopAgesMs: Object.fromEntries(loops.map((each) => [each.name, each.lastSuccessAgeMs()])),
        }),
      }),
    })

    let server: Awaited<ReturnType<typeof serveHttp>>
    try {
      server = await serveHttp(app, { host: config.apiHost, port: config.apiPort })
    } catch (error) {
      await work.run((sql) => endPod(sql, podId, 'gone', 'it could not serve')).catch(() => {})
      throw error
    }
    await heartbeat.start()
    for (const part of [notes.loop, ...loops]) part.start()
    if (!config.databasePooler) await doorbell.start()
    phase = 'ready'

    function tellCycle(summary: CycleSummary) {
      if (summary.requeued + summary.terminal > 0) {
        // Put to the front of their lanes: before the marks, here and elsewhere.
        worker.forgetMarks()
        say('forget')
      }
      if (summary.deadPods.length > 0 || summary.orphaned > 0)
        log.warn(
          {
            cycle: summary.cycleId,
            dead: summary.dead.map((pod) => `${pod.public_id} (silent ${pod.silent_seconds.toFixed(1)} s)`),
            requeued: summary.requeued,
            terminal: summary.terminal,
            durationMs: summary.durationMs,
          },
          'recovered what dead pods held',
        )
      options.onCycle?.(summary)
    }

    async function closeParts() {
      await doorbell.stop()
      for (const part of [promoter, leadership.loop, worker.loop, notes.loop]) await part.stop()
      await heartbeat.stop()
      await Promise.all(pools.map((each) => each.close()))
    }

    async function fenced() {
      phase = 'stopped'
      worker.stopClaiming()
      worker.letGo('fenced', 'this pod was declared dead; another one runs the step')
      // What ended meanwhile is handed in all the same: it is refused, and counted.
      await worker.finish(LET_GO_LIMIT_MS)
      options.onFenced()
    }

    async function stop(why = 'stopped') {
      if (phase === 'draining' || phase === 'stopped') return
      phase = 'draining'
      worker.stopClaiming()
      await work.run((sql) => startDraining(sql, podId)).catch(() => {})
      await leadership.resign('the pod is stopping')
      if (config.drainDelaySeconds > 0) await new Promise((done) => setTimeout(done, config.drainDelaySeconds * 1000))
      if (!(await worker.finish(config.graceSeconds * 1000))) {
        worker.letGo('shutdown', 'the pod is shutting down')
        await worker.finish(LET_GO_LIMIT_MS)
      }
      await end(why)
    }

    async function end(why: string) {
      phase = 'stopped'
      await server.close({ graceMs: 1000 })
      await notes.loop.stop()
      await work.run((sql) => endPod(sql, podId, 'gone', why)).catch(() => {})
      await closeParts()
    }

    return {
      id: publicId,
      address: { host: config.apiHost, port: server.port },
      migrated,
      types: [...registry.keys()],
      capacity,
      stop,
      async crash(error) {
        if (phase === 'stopped') return
        phase = 'stopped'
        worker.stopClaiming()
        const guilty = currentAttempt.getStore()
        log.fatal({ err: error, step: guilty?.stepId }, 'an exception that nobody caught: this pod ends')
        guilty?.blame(error)
        // Its report goes first; the neighbours are released, no attempt of theirs is burnt.
        await new Promise((done) => setImmediate(done))
        worker.letGo('crash', 'the pod ends: an exception that nobody caught')
        await worker.finish(CRASH_LIMIT_MS)
        await work.run((sql) => endPod(sql, podId, 'gone', 'an exception that nobody caught')).catch(() => {})
      },
    }
  }
}

/** A chore of its own, slower rhythm. */
function atMostEvery(ms: number, work: () => Promise<unknown>): Chore['run'] {
  let doneAt = Number.NEGATIVE_INFINITY
  return async () => {
    if (performance.now() - doneAt < ms) return undefined
    await work()
    doneAt = performance.now()
    return undefined
  }
}
