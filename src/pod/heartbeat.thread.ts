import { writeSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { connect, greet, type Database } from '../db/connect.ts'
import { isUnavailable } from '../db/failure.ts'
import { pass } from '../kernel/failpoint.ts'
import { loop } from '../kernel/loop.ts'
import { beatHeart, endPod, type Beat } from './pod.sql.ts'

/**
 * The heart of a pod, in a thread of its own with a connection of its own: a busy event loop does not look dead. It
 * also watches the main loop: one that has been stuck for longer than the stall limit does not look alive. Then the
 * thread ends the pod itself, first its row and then its process, so that recovery need not wait for silence and no
 * zombie is left.
 */
export interface HeartData {
  url: string
  pooler: boolean
  publicId: string
  heartbeatMs: number
  stallMs: number
  /** [0] handlers running, [1] handlers stuck, [2] ticks of the main loop. */
  shared: SharedArrayBuffer
  /** When the last confirmed beat was sent, on the machine's monotonic clock in milliseconds. */
  confirmed: BigInt64Array
}

export type HeartMessage =
  /** A beat was confirmed. */
  { kind: 'beat'; beat: Beat } | { kind: 'fenced' } | { kind: 'failed'; error: string }

/** `begin` comes when the pod has a row; until then the thread loads and connects, which takes its time. */
export type HeartOrder = { kind: 'begin'; podId: string } | { kind: 'ring' } | { kind: 'stop' }

const data = workerData as HeartData
let podId = ''
const vitals = new Int32Array(data.shared)
const port = parentPort
if (!port) throw new Error('the heartbeat runs as a worker thread only')

const database: Database = connect({
  url: data.url,
  name: `fleet-q heart ${data.publicId}`.slice(0, 63),
  max: 1,
  pooler: data.pooler,
  // Two tries fit into the shortest threshold (three heartbeats).
  deadlineMs: Math.max(1000, Math.min(data.heartbeatMs, 5000)),
})

const say = (message: HeartMessage) => port.postMessage(message)
/** Comparable between threads, unlike performance.now(). */
const monotonicMs = () => Number(process.hrtime.bigint() / 1_000_000n)

/** Only time that this thread has seen pass counts: a process that was frozen whole is not stalled. */
const WATCH_MS = Math.max(20, Math.min(1000, data.stallMs / 10))
let ticks = 0
let watchedAt = 0
let stuckMs = 0
let watch: NodeJS.Timeout | undefined

const heart = loop({
  name: 'heartbeat',
  everyMs: data.heartbeatMs,
  failedMs: 200,
  failedMaxMs: Math.min(1000, data.heartbeatMs),
  async run() {
    await pass('beat.before')
    const sentAt = monotonicMs()
    const [beat] = await database.run((sql) =>
      beatHeart(sql, {
        id: podId,
        heartbeatMs: data.heartbeatMs,
        running: Atomics.load(vitals, 0),
        stuck: Atomics.load(vitals, 1),
      }),
    )
    await pass('beat.after')
    if (!beat) {
      say({ kind: 'fenced' })
      // The main loop gets a moment to abort its handlers and leave; one that is stuck is ended from here.
      setTimeout(() => void leave('declared dead by the fleet, and did not leave by itself'), 5000).unref()
      return
    }
    Atomics.store(data.confirmed, 0, BigInt(sentAt))
    say({ kind: 'beat', beat })
  },
  onError(error) {
    if (!isUnavailable(error)) writeSync(2, `fleet-q heartbeat: ${String(error)}\n`)
    say({ kind: 'failed', error: error instanceof Error ? error.message : String(error) })
  },
})

function lookAtTicks() {
  const now = monotonicMs()
  const seen = Atomics.load(vitals, 2)
  stuckMs = seen === ticks ? stuckMs + Math.min(now - watchedAt, 2 * WATCH_MS) : 0
  ticks = seen
  watchedAt = now
  if (stuckMs > data.stallMs) {
    clearInterval(watch)
    void stalled()
  }
}

async function stalled() {
  const why = `its event loop was blocked for more than ${data.stallMs / 1000} s by a handler`
  await heart.stop()
  await database.run((sql) => endPod(sql, podId, 'dead', why), 3000).catch(() => {})
  await leave(why)
}

/** process.exit() in a thread ends the thread only; the signal ends the process, whatever its main loop is in. */
async function leave(why: string) {
  writeSync(2, `fleet-q: ${data.publicId} ends itself: ${why}\n`)
  process.kill(process.pid, 'SIGKILL')
}

function begin(ofPod: string) {
  podId = ofPod
  ticks = Atomics.load(vitals, 2)
  watchedAt = monotonicMs()
  watch = setInterval(lookAtTicks, WATCH_MS)
  heart.start()
}

function stop() {
  clearInterval(watch)
  void heart
    .stop()
    .then(() => database.close())
    .then(() => port?.close())
}

port.on('message', (order: HeartOrder) => {
  if (order.kind === 'begin') begin(order.podId)
  else if (order.kind === 'ring') heart.ring()
  else stop()
})

// A database that is away is waited for by the pod itself.
greet(database).catch(() => {})
