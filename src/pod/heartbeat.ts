import type { Log } from '../kernel/log.ts'
import { startThread } from '../kernel/thread.ts'
import type { HeartData, HeartMessage, HeartOrder } from './heartbeat.thread.ts'
import type { Beat } from './pod.sql.ts'

export interface HeartbeatOptions extends Omit<HeartData, 'shared' | 'confirmed'> {
  deadAfterMs: number
  log: Log
}

/** Whom it beats for, once the pod has a row, and whom it tells. */
export interface Listener {
  podId: string
  onBeat(beat: Beat): void
  /** This pod was declared dead: nothing that it does counts any more. */
  onFenced(): void
  /** Time to let go: the others may take over soon. Called once per silence. */
  onSilence(): void
}

export interface Heartbeat {
  /** Resolves with the first beat. */
  start(listener: Listener): Promise<void>
  /** May be called in any state, and twice. */
  stop(): Promise<void>
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
const STOP_LIMIT_MS = 3000

/**
 * The thread starts at once, while the pod itself still asks the database: it loads and connects on the other core, and
 * a pod is up in 115 ms where it took 157.
 */
export function createHeartbeat(options: HeartbeatOptions): Heartbeat {
  const { deadAfterMs, log, ...rest } = options
  const shared = new SharedArrayBuffer(12)
  const vitals = new Int32Array(shared)
  /**
   * When the last confirmed beat was sent, written by the thread itself and not told in a message: after a handler has
   * blocked this loop, its timers run before its messages, and a pod whose heart never stopped would let go.
   */
  const confirmed = new BigInt64Array(new SharedArrayBuffer(8))
  const file = import.meta.url.endsWith('.ts') ? './heartbeat.thread.ts' : './heartbeat.thread.js'
  const thread = startThread(new URL(file, import.meta.url), {
    workerData: { ...rest, shared, confirmed } satisfies HeartData,
    // It sends one statement now and then; a heap as large as the pod's own would cost 2 MB.
    resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 64 },
  })
  thread.on('error', (error) => log.error({ err: error }, 'the heartbeat thread failed'))
  const exited = new Promise<void>((resolve) => void thread.once('exit', () => resolve()))
  const order = (message: HeartOrder) => thread.postMessage(message)

  let stopping = false
  let letGo = false
  let tick: NodeJS.Timeout | undefined

  const monotonicMs = () => Number(process.hrtime.bigint() / 1_000_000n)
  const ageMs = () => {
    const sentAt = Number(Atomics.load(confirmed, 0))
    return sentAt === 0 ? undefined : monotonicMs() - sentAt
  }
  const mustLetGo = () => (ageMs() ?? Number.POSITIVE_INFINITY) > deadAfterMs * LET_GO_AT

  return {
    async start({ podId, onBeat, onFenced, onSilence }) {
      // The row was written a moment ago: that counts as the first beat.
      Atomics.store(confirmed, 0, BigInt(monotonicMs()))
      tick = setInterval(
        () => {
          Atomics.add(vitals, 2, 1)
          if (!letGo && mustLetGo()) {
            letGo = true
            onSilence()
          }
        },
        Math.max(20, Math.min(250, deadAfterMs / 20)),
      )
      // A pod without a heart is as good as dead: it fences itself.
      void exited.then(() => stopping || onFenced())
      order({ kind: 'begin', podId })
      // Nothing is claimed before the heart beats: a thread takes its time to start, and on a busy machine the row's own
      // time could run out with steps in hand. A database that is away now is waited for by the loops.
      await new Promise<void>((resolve) => {
        const limit = setTimeout(resolve, deadAfterMs)
        thread.on('message', (message: HeartMessage) => {
          if (message.kind === 'beat') {
            letGo = false
            clearTimeout(limit)
            resolve()
            onBeat(message.beat)
          } else if (message.kind === 'fenced') onFenced()
          else log.debug({ error: message.error }, 'heartbeat failed')
        })
      })
    },
    async stop() {
      stopping = true
      clearInterval(tick)
      order({ kind: 'stop' })
      const timer = setTimeout(() => void thread.terminate(), STOP_LIMIT_MS)
      await exited
      clearTimeout(timer)
    },
    mayClaim: () => (ageMs() ?? Number.POSITIVE_INFINITY) < deadAfterMs * CLAIM_UNTIL,
    mustLetGo,
    lastBeatAgeMs: ageMs,
    show(running, stuck) {
      Atomics.store(vitals, 0, running)
      Atomics.store(vitals, 1, stuck)
    },
    beatNow: () => order({ kind: 'ring' }),
  }
}
