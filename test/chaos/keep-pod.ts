import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startPodProcess, type PodProcess } from '../support/processes.ts'
import { startProxy, type DatabaseProxy } from '../support/proxy.ts'
import { atEnd } from '../support/cleanup.ts'

/** A place in the fleet: a pod that is started again when it ends, as Kubernetes does, behind a network of its own. */
export interface Slot {
  readonly n: number
  readonly network: DatabaseProxy
  /** Undefined between the end of one and the start of the next. */
  pod: PodProcess | undefined
  frozen: boolean
  /** For the next start only. */
  extraEnv: Record<string, string>
  /** What the last start had of it. */
  startedWith: Record<string, string>
  readonly ends: End[]
  /** It is not started again. */
  close(): void
}

export interface End {
  podId: string
  code: number | null
  signal: NodeJS.Signals | null
  /** It said that it had been declared dead. */
  isFenced: boolean
  /** What it said at last. */
  lastWords: string
}

const HANDLERS = join(import.meta.dirname, 'handlers')
const ARM = join(import.meta.dirname, '../support/arm.ts')
const RESTART_MS = 300
/** Half as fast as the fast settings, so that a busy machine does not look dead. */
export const DEAD_AFTER_SECONDS = 3
export const STALL_SECONDS = 4
const HEAP_MB = 192
const THAW_MS = 5000

export async function keepPod(options: {
  n: number
  url: string
  pooler: boolean
  env: Record<string, string>
  /** For what pods have printed. */
  folder: string
  say(line: string): void
}): Promise<Slot> {
  const { n, pooler, say } = options
  const network = await startProxy(options.url)
  let closed = false
  const slot: Slot = {
    n,
    network,
    pod: undefined,
    frozen: false,
    extraEnv: {},
    startedWith: {},
    ends: [],
    close() {
      closed = true
    },
  }

  async function live() {
    const { extraEnv } = slot
    slot.extraEnv = {}
    slot.startedWith = extraEnv
    const pod = await startPodProcess(
      network.url,
      {
        FLEET_Q_HANDLERS: HANDLERS,
        FLEET_Q_HEARTBEAT_SECONDS: '0.5',
        FLEET_Q_DEAD_AFTER_SECONDS: String(DEAD_AFTER_SECONDS),
        FLEET_Q_STALL_SECONDS: String(STALL_SECONDS),
        FLEET_Q_RECOVERY_SECONDS: '0.5',
        FLEET_Q_GRACE_SECONDS: '5',
        FLEET_Q_MAX_PARALLELISM: '20',
        FLEET_Q_LOG_LEVEL: 'debug',
        FLEET_Q_DATABASE_POOLER: String(pooler),
        ...options.env,
        ...extraEnv,
      },
      { limitMs: 120_000, nodeArgs: [`--max-old-space-size=${HEAP_MB}`, '--import', ARM] },
    )
    slot.pod = pod
    pod.child.stderr?.on('data', (chunk: Buffer) => {
      const words = chunk.toString()
      if (!words.includes('failpoint ')) return
      say(`pod ${n}: ${words.trim().slice(0, 200)}`)
      // It has stopped itself, and cannot go on by itself.
      if (words.includes(': stop')) setTimeout(() => pod.signal('SIGCONT'), THAW_MS)
    })
    const { code, signal } = await pod.exited
    slot.pod = undefined
    slot.frozen = false
    writeFileSync(join(options.folder, `${pod.id}.log`), pod.output())
    slot.ends.push({
      podId: pod.id,
      code,
      signal,
      isFenced: pod.output().includes('declared dead'),
      lastWords: lastWords(pod.output()),
    })
  }

  void (async () => {
    while (!closed) {
      try {
        await live()
      } catch (error) {
        // No database at its start, for longer than it waits: it ends with words, and comes again.
        say(`pod ${n} did not start: ${String(error).slice(0, 300)}`)
      }
      await new Promise((resolve) => setTimeout(resolve, RESTART_MS))
    }
  })()
  atEnd(() => slot.close())
  return slot
}

/** What matters of what it printed: not the chatter. */
const lastWords = (output: string) =>
  output
    .split('\n')
    .filter((line) => !line.includes('"level":"debug"'))
    .join('\n')
    .slice(-2000)
