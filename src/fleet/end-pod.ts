import type { Config } from '../config.ts'
import type { Database } from '../db/connect.ts'
import { pass } from '../kernel/failpoint.ts'
import type { Log } from '../kernel/log.ts'
import type { Loop } from '../kernel/loop.ts'
import type { Service } from '../kernel/service.ts'
import type { Leadership } from '../leader/lead.ts'
import type { Heartbeat } from '../pod/heartbeat.ts'
import { callOut } from '../pod/hints.ts'
import { endPod, startDraining } from '../pod/pod.sql.ts'
import { countCrashes } from '../recovery/recovery.sql.ts'
import { POISON_AFTER } from '../step/step.ts'
import { stopThreads } from '../worker/isolate.ts'
import type { Notes } from '../worker/notes.ts'
import { currentAuthor } from '../worker/run-attempt.ts'
import { LET_GO_LIMIT_MS, type PodWorker } from '../worker/work.ts'

export type Phase = 'starting' | 'ready' | 'draining' | 'stopped'

export interface Parts {
  config: Config
  podId: string
  work: Database
  pools: Pick<Database, 'close'>[]
  worker: PodWorker
  leadership: Leadership
  promoter: Loop
  notes: Notes
  heartbeat: Heartbeat
  doorbell: Service
  closeServer(graceMs: number): Promise<void>
  log: Log
  onFenced(): void
}

export interface Life {
  readonly phase: Phase
  begin(): void
  stop(why?: string): Promise<void>
  crash(error: unknown): Promise<void>
  fenced(): void
}

/** These two end before the process is ended whatever it does, 3 s after the crash. */
const CRASH_LIMIT_MS = 2000
const COUNT_LIMIT_MS = 500

/** The ways in which a pod ends: asked to, by an exception that nobody caught, or declared dead by the others. */
export function createLife(parts: Parts): Life {
  let phase: Phase = 'starting'
  let stopped: Promise<void> | undefined
  let crashed: Promise<void> | undefined

  async function stop(why: string) {
    const { config, work, podId, worker, leadership } = parts
    phase = 'draining'
    worker.stopClaiming()
    await work.run((sql) => startDraining(sql, podId)).catch(() => {})
    await leadership.resign('the pod is stopping')
    await pass('goodbye.draining')
    if (config.drainDelaySeconds > 0)
      await new Promise((done) => setTimeout(done, config.drainDelaySeconds * 1000))
    if (!(await worker.finish(config.graceSeconds * 1000))) {
      worker.letGo('shutdown', 'the pod is shutting down')
      await worker.finish(LET_GO_LIMIT_MS)
    }
    await close(why)
  }

  /** In the reverse order of the start; the goodbye comes before the connections go. */
  async function close(why: string) {
    const { work, podId, pools, worker, leadership, promoter, notes, heartbeat, doorbell, closeServer } =
      parts
    phase = 'stopped'
    await closeServer(1000)
    await notes.loop.stop()
    await pass('goodbye.before')
    await work.run((sql) => endPod(sql, podId, 'gone', why)).catch(() => {})
    await pass('goodbye.after')
    // It knew of steps that are due soon; the leader looks only now and then.
    await callOut(work, podId, 'due')
    await doorbell.stop()
    for (const part of [promoter, leadership.loop, worker.loop]) await part.stop()
    await heartbeat.stop()
    await stopThreads()
    await Promise.all(pools.map((each) => each.close()))
  }

  async function leave() {
    const { worker, onFenced } = parts
    worker.stopClaiming()
    worker.letGo('fenced', 'this pod was declared dead; another one runs the step')
    // What ended meanwhile is handed in all the same: it is refused, and counted.
    await worker.finish(LET_GO_LIMIT_MS)
    onFenced()
  }

  async function crash(error: unknown) {
    phase = 'stopped'
    const { work, podId, worker, log } = parts
    worker.stopClaiming()
    const guilty = currentAuthor.getStore()
    log.fatal({ err: error, step: guilty?.stepId }, 'an exception that nobody caught: this pod ends')
    const why = 'an exception that nobody caught'
    if (!guilty) {
      // Any of them may have done it: all count as having killed a pod, or one of them could do it for ever.
      await work.run((sql) => endPod(sql, podId, 'dead', why)).catch(() => {})
      await callOut(work, podId, 'recover')
      return
    }
    // It counts among the pods that the step has killed; a step that may be tried a hundred times must not kill more.
    const [before] = await work.run((sql) => countCrashes(sql, guilty.key), COUNT_LIMIT_MS).catch(() => [])
    guilty.blame(error, (before?.crashes ?? 0) + 1 >= POISON_AFTER)
    // Its report goes first; the neighbours are released, no attempt of theirs is burnt.
    await new Promise((done) => setImmediate(done))
    worker.letGo('crash', `the pod ends: ${why}`)
    await worker.finish(CRASH_LIMIT_MS)
    await work.run((sql) => endPod(sql, podId, 'gone', why)).catch(() => {})
  }

  return {
    get phase() {
      return phase
    },
    begin() {
      phase = 'ready'
    },
    stop: (why = 'stopped') => (stopped ??= phase === 'stopped' ? Promise.resolve() : stop(why)),
    // What throws in an interval throws again before the first time is dealt with; whoever is told that the crash is
    // over ends the process, and with it the neighbours that are just being given back.
    crash: (error) => (crashed ??= phase === 'stopped' ? Promise.resolve() : crash(error)),
    fenced() {
      if (phase === 'stopped') return
      phase = 'stopped'
      parts.log.error({}, 'this pod was declared dead: it aborts its handlers and ends')
      void leave()
    },
  }
}
