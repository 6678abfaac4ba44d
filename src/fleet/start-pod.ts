import { createKeyring } from '../access/keyring.ts'
import { podName, type Config } from '../config.ts'
import { noContact } from '../db/address.ts'
import { awaitDatabase } from '../db/connect.ts'
import { listen } from '../db/listen.ts'
import { migrate } from '../db/migrate.ts'
import { isUnverified } from '../db/tls.ts'
import type { Door } from '../http/routes/door.ts'
import { createCheckpoints } from '../execution/checkpoints.ts'
import type { ExecutionParts } from '../execution/open-execution.ts'
import { createSubmitChildren } from '../execution/submit-children.ts'
import { pass } from '../kernel/failpoint.ts'
import { createMeters } from '../kernel/meters.ts'
import { newPodId } from '../kernel/ids.ts'
import type { Log } from '../kernel/log.ts'
import { createLeadership } from '../leader/lead.ts'
import { createHeartbeat, type Listener } from '../pod/heartbeat.ts'
import { CHANNEL, createHints, parseHint } from '../pod/hints.ts'
import { createLookout } from '../pod/lookout.ts'
import { endPod, registerPod } from '../pod/pod.sql.ts'
import type { CycleSummary } from '../recovery/run-cycle.ts'
import { createSubmitter } from '../step/submit.ts'
import { createWaitingRoom } from '../step/waiting-room.ts'
import { capacityOf } from '../worker/capacity.ts'
import { createNotes } from '../worker/notes.ts'
import { createRegistry, type Handled } from '../worker/registry.ts'
import { createWorker, STUCK_SHARE } from '../worker/work.ts'
import { createLife } from './end-pod.ts'
import { choresOf } from './list-chores.ts'
import { createDueMover } from './move-due.ts'
import { noteCycle } from './note-cycle.ts'
import { openPools } from './open-pools.ts'
import { configuredTokens, refuseOpenDoor, servePod } from './serve-pod.ts'
import { VERSION } from './version.ts'

export interface PodOptions {
  config: Config
  /** Where the steps lie; a pod without DATABASE_URL has started a Postgres of its own by now. */
  databaseUrl: string
  steps: Handled[]
  log: Log
  /** This pod does not count any more: declared dead, or its heart failed. The process is to end. */
  onFenced(): void
  onCycle?(summary: CycleSummary): void
  /** For tests: an answer that does not fit its schema is an error. */
  checkAnswers?: boolean
  /** For tests: stands between executions and what they remember. */
  standBetween?(parts: ExecutionParts): ExecutionParts
}

export interface Pod {
  readonly id: string
  readonly address: { host: string; port: number }
  readonly migrated: number[]
  readonly types: string[]
  readonly capacity: number
  /** A token was made for this fleet, or stands in the settings: without one nobody gets in. */
  readonly needsToken: boolean
  /** Finishes what it can within the grace period, releases the rest, says goodbye. */
  stop(why?: string): Promise<void>
  /** An exception that nobody caught: blames the attempt it came from, releases the others, ends quickly. */
  crash(error: unknown): Promise<void>
}

/** Beats tell whether there may be work; so many polls apart a pod looks all the same. */
const POLLS_ALL_THE_SAME = 6
const DATABASE_WAIT_MS = 10_000

/** Builds every part once, starts them in order, stops them in reverse: the one place where they meet. */
export async function startPod(options: PodOptions): Promise<Pod> {
  const { config, databaseUrl, log } = options
  if (isUnverified(databaseUrl))
    log.warn({}, 'nobody looks who is at the other end of DATABASE_URL: its sslmode is disable or no-verify')
  const publicId = newPodId(podName(config))
  const capacity = capacityOf(config.maxParallelism, config.capacityPercent)
  const registry = createRegistry(options.steps)
  const heartbeatMs = config.heartbeatSeconds * 1000
  const deadAfterMs = config.deadAfterSeconds * 1000

  const heartbeat = createHeartbeat({
    url: databaseUrl,
    pooler: config.databasePooler,
    publicId,
    heartbeatMs,
    deadAfterMs,
    stallMs: config.stallSeconds * 1000,
    log,
  })
  const {
    work,
    asked,
    door,
    shared,
    transactions,
    connectionName,
    all: pools,
  } = openPools({
    url: databaseUrl,
    config,
    publicId,
    log,
  })
  const keyring = createKeyring(configuredTokens(config), door)

  try {
    const { applied, invalidIndexes } = await prepare().catch((error: unknown) => {
      throw noContact(error, databaseUrl)
    })
    if (invalidIndexes.length > 0)
      log.error(
        { indexes: invalidIndexes },
        'indexes are invalid, nothing is found by them: run `reindex index concurrently` for each',
      )
    return await assemble(applied)
  } catch (error) {
    await Promise.all([heartbeat.stop(), ...pools.map((each) => each.close())])
    throw error
  }

  async function prepare() {
    await awaitDatabase(work, DATABASE_WAIT_MS, (error) =>
      log.warn({ err: error }, 'waiting for the database'),
    )
    const migrated = await migrate(work)
    await keyring.fresh()
    refuseOpenDoor(config, keyring, log)
    return migrated
  }

  async function assemble(migrated: number[]): Promise<Pod> {
    const podId = await register()
    await pass('register.after')
    const bornAt = performance.now()
    const mayHaveWork = createLookout()
    let drainWanted = false
    let lastCycle: string | null = null
    const { say, sayBehind } = createHints(work, podId)
    const notes = createNotes(work, log)
    const meters = createMeters()

    const parts: ExecutionParts = {
      transactions,
      checkpoints: createCheckpoints(work, podId),
      submitChildren: createSubmitChildren((wishes, key, as) => submitter.submit(wishes, key, as)),
    }
    const executions = options.standBetween?.(parts) ?? parts
    const worker = createWorker({
      database: work,
      transactions,
      podId,
      registry,
      capacity,
      pollMs:
        config.pollSeconds *
        (config.pollSeconds < config.heartbeatSeconds ? 1000 : 1000 * POLLS_ALL_THE_SAME),
      stepTimeoutMs: config.stepTimeoutSeconds * 1000,
      notes,
      executions,
      meters,
      log,
      mayClaim: () => heartbeat.mayClaim(),
      onPutBack: () => say('forget'),
      onReady: () => say('ready'),
      onDueIn: (ms) => due.dueIn(ms),
      onRunning: (running, stuck) => heartbeat.show(running, stuck),
    })

    const leadership = createLeadership({
      database: work,
      podId,
      eligible: config.leaderEligible,
      roundMs: config.recoverySeconds * 1000,
      chores: choresOf({ config, database: work, podId, onCycle: tellCycle, onReady: tellReady }),
      log,
      lookAgainIn: (ms) => void setTimeout(() => heartbeat.beatNow(), ms).unref(),
      onChange: () => due.loop.ring(),
    })

    const due = createDueMover({
      database: work,
      isLeading: () => leadership.term !== undefined,
      onMoved: tellReady,
      log,
    })

    const listener: Listener = {
      podId,
      onBeat(beat) {
        leadership.onBeat(beat)
        if (beat.drain_wanted !== drainWanted) {
          drainWanted = beat.drain_wanted
          log.info({}, drainWanted ? 'draining: an operator wishes it' : 'taking steps again')
          if (!drainWanted) worker.ring()
        }
        // What a cycle put back lies before the marks. A call says so at once; this makes sure, where there are no calls
        // (behind PgBouncer) or their leader died before it could make one.
        if (beat.last_cycle !== lastCycle) {
          lastCycle = beat.last_cycle
          worker.lookAtFronts()
        }
        void lookForCancelled()
        worker.heardLimits(beat.limited_types)
        // A pause may end by the clock, and nobody calls it out.
        if (mayHaveWork(beat.last_position, beat) || beat.paused) worker.ring()
        due.heard(beat)
      },
      onFenced: () => life.fenced(),
      onSilence() {
        log.warn(
          {},
          'no heartbeat was confirmed for too long: handlers are aborted before others may take over',
        )
        worker.letGo('silence', 'the pod could not report to the database for too long')
      },
    }

    const doorbell = listen({
      url: databaseUrl,
      name: connectionName('listen'),
      channel: CHANNEL,
      onMessage(payload) {
        const hint = parseHint(payload)
        if (hint?.kind === 'ready') worker.ring()
        else if (hint?.kind === 'forget') worker.lookAtFronts()
        else if (hint?.kind === 'cancel') void lookForCancelled()
        else if (hint?.kind === 'limit') {
          refreshLimits()
          worker.ring()
        } else if (hint?.kind === 'recover') leadership.ring()
        else if (hint?.kind === 'due') due.loop.ring()
        else if (hint?.kind === 'drain') heartbeat.beatNow()
      },
      onConnect: () => worker.ring(),
      onError: (error) => log.debug({ err: error }, 'notifications are not to be had; polling goes on'),
    })

    const submitter = createSubmitter({
      database: door,
      shared,
      callBehind(sql, types, inserted) {
        if (types.some((type) => !registry.has(type))) sayBehind(sql, 'ready', inserted)
      },
      onDueIn: (ms) => due.dueIn(ms),
      onSubmitted(types, called) {
        const isOurs = types.some((type) => registry.has(type))
        // Its own claim goes first, then the call to the others.
        if (isOurs) worker.ring()
        if (isOurs || !called) say('ready')
      },
      onReplaced() {
        void lookForCancelled()
        say('cancel')
      },
    })

    const waits = createWaitingRoom(door)
    const loops = [worker.loop, leadership.loop, due.loop]
    const doorOfPod: Door = {
      database: door,
      submitter,
      waits,
      registry,
      podId,
      publicId,
      version: VERSION,
      capacity,
      say,
      onReady: () => worker.ring(),
      onCancelled: lookForCancelled,
      onLimit: refreshLimits,
      onCycle: tellCycle,
      term: () => leadership.term,
      meters,
      vitals: () => ({
        phase: drainWanted && life.phase === 'ready' ? 'draining' : life.phase,
        uptimeSeconds: (performance.now() - bornAt) / 1000,
        running: worker.running,
        stuck: worker.stuck,
        healthy: worker.stuck <= capacity * STUCK_SHARE,
        databaseCalls: { work: work.underWay, door: asked.underWay, submits: shared.underWay },
        beatAgeMs: heartbeat.lastBeatAgeMs(),
        heartbeatMs,
        loopAgesMs: Object.fromEntries(loops.map((each) => [each.name, each.lastSuccessAgeMs()])),
      }),
    }
    const server = await servePod({
      config,
      door: doorOfPod,
      keyring,
      log,
      checkAnswers: options.checkAnswers ?? false,
    }).catch(async (error: unknown) => {
      await work.run((sql) => endPod(sql, podId, 'gone', 'it could not serve')).catch(() => {})
      throw error
    })

    const life = createLife({
      config,
      podId,
      work,
      pools,
      worker,
      leadership,
      promoter: due.loop,
      notes,
      heartbeat,
      doorbell,
      closeServer(graceMs) {
        waits.close()
        return server.close({ graceMs })
      },
      log,
      onFenced: options.onFenced,
    })
    await heartbeat.start(listener)
    for (const part of [notes.loop, ...loops]) part.start()
    if (!config.databasePooler) await doorbell.start()
    life.begin()

    return {
      id: publicId,
      address: { host: config.apiHost, port: server.port },
      migrated,
      types: [...registry.keys()],
      capacity,
      needsToken: !keyring.isEmpty(),
      stop: life.stop,
      crash: life.crash,
    }

    function tellReady() {
      worker.ring()
      say('ready')
    }

    /** Cancelled elsewhere: a hint says so at once, the heartbeat makes sure. */
    function lookForCancelled(): Promise<void> {
      return worker.lookForCancelled().catch(() => {})
    }

    function refreshLimits() {
      worker.refreshLimits().catch(() => {})
    }

    function tellCycle(summary: CycleSummary) {
      noteCycle(summary, meters, log)
      if (summary.requeued + summary.terminal > 0) {
        // Put to the front of their lanes: before the marks, here and elsewhere.
        worker.lookAtFronts()
        say('forget')
      }
      // Some were spread over the next seconds; and the dead knew of steps that are due soon.
      if (summary.deadPods.length > 0) due.loop.ring()
      options.onCycle?.(summary)
    }
  }

  async function register(): Promise<string> {
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
    return row.id
  }
}
