import type { Worker } from 'node:worker_threads'
import type { Log } from '../kernel/log.ts'
import type { Service } from '../kernel/service.ts'
import { startThread } from '../kernel/thread.ts'
import type { HeartData, HeartMessage } from './heartbeat.thread.ts'
import type { Beat } from './pod.sql.ts'

export interface HeartbeatOptions {
  url: string
  pooler: boolean
  podId: string
  publicId: string
  heartbeatMs: number
  deadAfterMs: number
  stallMs: number
  log: Log
  onBeat(beat: Beat): void
  /** This pod was declared dead: nothing that it does counts any more. */
  onFenced(): void
  /** Time to let go: the others may take over soon. Called once per silence. */
  onSilence(): void
}

export interface Heartbeat extends Service {
  /** No claim may be made when the last confirmed beat is older than this pod's own limit. */
  mayClaim(): boolean
  /** Handlers are aborted by now: others may take over soon. */
  mustLetGo(): boolean
  lastBeatAgeMs(): number | undefined
  show(running: number, stuck: number): void
  beatNow(): void
}

/**
 * Share of the threshold, measured from when the last confirmed beat was sent. Claiming stops first, so that nothing
 * new is at risk; then handlers are told to stop, before anybody may start them elsewhere.
 */
const CLAIM_UNTIL = 0.6
const LET_GO_AT = 0.8

export function createHeartbeat(options: HeartbeatOptions): Heartbeat {
  const { publicId, heartbeatMs, deadAfterMs, stallMs, log } = options
  const shared = new SharedArrayBuffer(12)
  const vitals = new Int32Array(shared)
  let thread: Worker | undefined
  let stopping = false
  /**
   * When the last confirmed beat was sent, written by the thread itself and not told in a message: after a handler has
   * blocked this loop, its timers run before its messages, and a pod whose heart never stopped would let go.
   */
  const confirmed = new BigInt64Array(new SharedArrayBuffer(8))
  let letGo = false
  let beaten: () => void = () => {}
  let tick: NodeJS.Timeout | undefined

  const monotonicMs = () => Number(process.hrtime.bigint() / 1_000_000n)
  const ageMs = () => {
    const sentAt = Number(Atomics.load(confirmed, 0))
    return sentAt === 0 ? undefined : monotonicMs() - sentAt
  }

  function receive(message: HeartMessage) {
    if (message.kind === 'beat') {
      letGo = false
      beaten()
      options.onBeat(message.beat)
    } else if (message.kind === 'fenced') options.onFenced()
    else log.debug({ error: message.error }, 'heartbeat failed')
  }

  return {
    name: 'heartbeat',
    async start() {
      // The row was written a moment ago: that counts as the first beat.
      Atomics.store(confirmed, 0, BigInt(monotonicMs()))
      const data: HeartData = {
        url: options.url,
        pooler: options.pooler,
        podId: options.podId,
        publicId,
        heartbeatMs,
        stallMs,
        shared,
        confirmed,
      }
      const file = import.meta.url.endsWith('.ts') ? './heartbeat.thread.ts' : './heartbeat.thread.js'
      thread = startThread(new URL(file, import.meta.url), {
        workerData: data,
        // It sends one statement now and then; a heap as large as the pod's own would cost 2 MB.
        resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 64 },
      })
      thread.on('message', receive)
      thread.on('error', (error) => log.error({ err: error }, 'the heartbeat thread failed'))
      thread.on('exit', () => {
        // A pod without a heart is as good as dead: it fences itself.
        if (!stopping) options.onFenced()
      })
      tick = setInterval(
        () => {
          Atomics.add(vitals, 2, 1)
          if (!letGo && this.mustLetGo()) {
            letGo = true
            options.onSilence()
          }
        },
        Math.max(20, Math.min(250, deadAfterMs / 20)),
      )
      // Nothing is claimed before the heart beats: a thread takes its time to start, and on a busy machine the row's own
      // time could run out with steps in hand. A database that is away now is waited for by the loops.
      await new Promise<void>((resolve) => {
        const limit = setTimeout(resolve, deadAfterMs)
        beaten = () => {
          clearTimeout(limit)
          resolve()
        }
      })
    },
    async stop() {
      stopping = true
      clearInterval(tick)
      const worker = thread
      if (!worker) return
      thread = undefined
      worker.postMessage('stop')
      await new Promise<void>((resolve) => {
        const timer = setTimeout(() => void worker.terminate().then(() => resolve()), 3000)
        worker.once('exit', () => {
          clearTimeout(timer)
          resolve()
        })
      })
    },
    mayClaim: () => (ageMs() ?? Number.POSITIVE_INFINITY) < deadAfterMs * CLAIM_UNTIL,
    mustLetGo: () => (ageMs() ?? Number.POSITIVE_INFINITY) > deadAfterMs * LET_GO_AT,
    lastBeatAgeMs: ageMs,
    show(running, stuck) {
      Atomics.store(vitals, 0, running)
      Atomics.store(vitals, 1, stuck)
    },
    beatNow: () => thread?.postMessage('ring'),
  }
}
