/* oxlint-disable unicorn/require-post-message-target-origin -- threads are no windows: they have no origin */
import { availableParallelism } from 'node:os'
import type { Worker } from 'node:worker_threads'
import { startThread } from '../kernel/thread.ts'
import { NonRetryableError, Wish, type StepContext } from '../step/handler.ts'
import {
  errorFrom,
  plainError,
  THREAD_NAME,
  type Order,
  type PlainContext,
  type Report,
  type ThreadMessage,
} from './isolate.thread.ts'

/** A run of a step's handler in a thread: where to find the step, and what its handler gets. */
export interface ThreadJob {
  readonly modulePath: string
  readonly exportName: string
  /** They have passed `input`, and must be plain data. */
  readonly args: unknown
  readonly context: StepContext
}

export interface ThreadPoolOptions {
  threadsMax?: number
  /** A thread that had nothing to do for so long is ended. */
  idleMs?: number
  /** How long a handler may take to end after an abort, before its thread is ended. */
  graceMs?: number
  /** Heap of one thread; a handler that needs more fails its attempt. */
  memoryMb?: number
}

export interface ThreadPool {
  /** Fulfilled with what the handler returned, as plain data or a Wish; rejected with what it threw. */
  runInThread(
    job: ThreadJob,
    signal: AbortSignal,
    onMessage?: (message: ThreadMessage) => void,
  ): Promise<unknown>
  stop(): Promise<void>
}

interface Thread {
  readonly worker: Worker
  hasEnded: boolean
  idleTimer?: NodeJS.Timeout
}

/** Threads for handlers. They are started when they are needed, used again, and ended when they are idle. */
export function threadPool(options: ThreadPoolOptions = {}): ThreadPool {
  const { threadsMax = Math.max(4, availableParallelism()), idleMs = 30_000 } = options
  const { graceMs = 1000, memoryMb = 512 } = options
  const threads = new Set<Thread>()
  const idle: Thread[] = []
  const waiting: { start(thread: Thread): void; refuse(error: Error): void }[] = []
  let jobs = 0
  let stopped = false

  async function runInThread(job: ThreadJob, signal: AbortSignal, onMessage = relayTo(job.context)) {
    const thread = await take(signal)
    try {
      signal.throwIfAborted()
      return await work(thread, job, signal, onMessage)
    } finally {
      giveBack(thread)
    }
  }

  async function take(signal: AbortSignal): Promise<Thread> {
    if (stopped) throw poolStopped()
    const rested = idle.pop()
    if (rested !== undefined) return wake(rested)
    if (threads.size < threadsMax) return start()
    return await new Promise<Thread>((resolve, reject) => {
      const entry = {
        start: (thread: Thread) => leave(() => resolve(thread)),
        refuse: (error: Error) => leave(() => reject(error)),
      }
      const leave = (then: () => void) => {
        signal.removeEventListener('abort', onAbort)
        waiting.splice(waiting.indexOf(entry), 1)
        then()
      }
      const onAbort = () => leave(() => reject(signal.reason))
      signal.addEventListener('abort', onAbort)
      waiting.push(entry)
    })
  }

  function start(): Thread {
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    const worker = startThread(new URL(`./isolate.thread.${extension}`, import.meta.url), {
      name: THREAD_NAME,
      workerData: THREAD_NAME,
      resourceLimits: { maxOldGenerationSizeMb: memoryMb },
    })
    const thread: Thread = { worker, hasEnded: false }
    threads.add(thread)
    // Also while nobody runs in it: what a handler left behind may throw later.
    worker.on('error', () => forget(thread))
    worker.on('exit', () => forget(thread))
    return thread
  }

  function forget(thread: Thread) {
    thread.hasEnded = true
    clearTimeout(thread.idleTimer)
    threads.delete(thread)
    if (idle.includes(thread)) idle.splice(idle.indexOf(thread), 1)
  }

  /** Forgotten at once, so that nobody gets it while it ends; where it is deaf inside of native code that takes time. */
  function end(thread: Thread) {
    forget(thread)
    void thread.worker.terminate()
  }

  function wake(thread: Thread): Thread {
    clearTimeout(thread.idleTimer)
    thread.worker.ref()
    return thread
  }

  function giveBack(thread: Thread) {
    const [next] = waiting
    if (next !== undefined && !stopped) return next.start(thread.hasEnded ? start() : thread)
    if (thread.hasEnded) return undefined
    // An idle thread keeps no pod from ending.
    thread.worker.unref()
    thread.idleTimer = setTimeout(() => end(thread), idleMs).unref()
    idle.push(thread)
    return undefined
  }

  function work(
    thread: Thread,
    job: ThreadJob,
    signal: AbortSignal,
    onMessage: (message: ThreadMessage) => void,
  ) {
    const { worker } = thread
    const id = ++jobs
    return new Promise<unknown>((resolve, reject) => {
      let graceTimer: NodeJS.Timeout | undefined
      const onReport = (report: Report) => {
        // What an earlier handler left behind may still talk.
        if (report.id !== id) return undefined
        if (report.kind === 'said') return onMessage(report.message)
        clear()
        if (report.kind === 'threw') return reject(errorFrom(report.error))
        if (report.kind === 'wished')
          return resolve(new Wish(report.wish.kind, report.wish.afterMs, report.wish.reason))
        return resolve(report.json === undefined ? undefined : JSON.parse(report.json))
      }
      const onError = (error: unknown) => {
        clear()
        reject(crashOf(error, memoryMb))
      }
      const onExit = (code: number) => {
        clear()
        reject(signal.aborted ? signal.reason : stopped ? poolStopped() : exitOf(code))
      }
      const onAbort = () => {
        worker.postMessage({ kind: 'abort', id, reason: plainError(signal.reason) } satisfies Order)
        graceTimer = setTimeout(() => end(thread), graceMs)
      }
      const clear = () => {
        clearTimeout(graceTimer)
        signal.removeEventListener('abort', onAbort)
        worker.off('message', onReport).off('error', onError).off('exit', onExit)
      }
      worker.on('message', onReport).on('error', onError).on('exit', onExit)
      signal.addEventListener('abort', onAbort)
      const { modulePath, exportName, args, context } = job
      try {
        worker.postMessage({
          kind: 'run',
          id,
          modulePath,
          exportName,
          args,
          context: plainContext(context),
        } satisfies Order)
      } catch (error) {
        clear()
        reject(notPlain(error))
      }
    })
  }

  async function stop() {
    stopped = true
    while (waiting[0] !== undefined) waiting[0].refuse(poolStopped())
    await Promise.all([...threads].map(({ worker }) => worker.terminate()))
  }

  return { runInThread, stop }
}

/** One pool for the process: what it shares out is the processor. */
let shared: ThreadPool | undefined

export const runInThread: ThreadPool['runInThread'] = (job, signal, onMessage) =>
  (shared ??= threadPool()).runInThread(job, signal, onMessage)

export async function stopThreads(): Promise<void> {
  await shared?.stop()
  shared = undefined
}

function plainContext(context: StepContext): PlainContext {
  const { stepId, type, attempt, maxRetries, metadata, tags, idempotencyKey } = context
  return { stepId, type, attempt, maxRetries, metadata, tags, idempotencyKey }
}

const relayTo = (context: StepContext) => (message: ThreadMessage) => {
  if (message.kind === 'progress') context.progress(message.percent, message.message)
  else context.log[message.level](message.message, message.data)
}

function crashOf(error: unknown, memoryMb: number): Error {
  if (!(error instanceof Error)) return new Error(String(error))
  if (!('code' in error) || error.code !== 'ERR_WORKER_OUT_OF_MEMORY') return error
  return new Error(
    `the handler needed more than the ${memoryMb} MB of memory that a thread has, and was ended`,
    {
      cause: error,
    },
  )
}

const exitOf = (code: number) =>
  new Error(`the handler ended its thread (process.exit, code ${code}); return or throw instead`)

const notPlain = (error: unknown) =>
  new NonRetryableError(
    'the arguments cannot be handed to a thread, because they are not plain data; let `input` of the step make ' +
      `nothing but strings, numbers, lists and objects: ${error instanceof Error ? error.message : String(error)}`,
  )

const poolStopped = () => new Error('the pod is stopping: its threads have ended')
