import { spawn, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { until } from './until.ts'
import { atEnd } from './cleanup.ts'

/** A process that is to be a pod, up or not. */
export interface PodChild {
  readonly pid: number
  readonly child: ChildProcess
  /** Everything that it printed so far. */
  output(): string
  /** Fulfilled when a log line with these words has appeared. */
  saw(words: string | RegExp, limitMs?: number): Promise<string>
  signal(name: NodeJS.Signals): void
  /** Fulfilled when the process has ended. */
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  readonly isOver: boolean
}

/** A pod as a process of its own: what is killed, frozen and stopped in tests of death. */
export interface PodProcess extends PodChild {
  readonly id: string
  readonly url: string
}

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const HANDLERS = fileURLToPath(new URL('./handlers', import.meta.url))

/** Fast settings: what takes 15 s with the defaults takes 1.5 s here. */
export const FAST = {
  FLEET_Q_HEARTBEAT_SECONDS: '0.3',
  FLEET_Q_DEAD_AFTER_SECONDS: '1.5',
  FLEET_Q_RECOVERY_SECONDS: '0.5',
  FLEET_Q_STALL_SECONDS: '6',
  FLEET_Q_POLL_SECONDS: '0.5',
  FLEET_Q_GRACE_SECONDS: '10',
}

const running = new Set<ChildProcess>()

interface StartOptions {
  limitMs?: number
  nodeArgs?: string[]
}

/** Does not wait until it is up: it may never be. */
export function spawnPod(
  databaseUrl: string,
  env: Record<string, string> = {},
  { nodeArgs = [] }: StartOptions = {},
): PodChild {
  const child = spawn(process.execPath, ['--import', 'tsx', ...nodeArgs, MAIN], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      DATABASE_URL: databaseUrl,
      FLEET_Q_API_PORT: '0',
      FLEET_Q_HANDLERS: HANDLERS,
      FLEET_Q_LOG_FORMAT: 'json',
      FLEET_Q_LOG_LEVEL: 'debug',
      ...FAST,
      ...env,
    },
  })
  running.add(child)
  let output = ''
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    // At 'exit' its last words may still be in the pipe.
    child.once('close', (code, signal) => {
      running.delete(child)
      resolve({ code, signal })
    })
  })
  let ended = false
  void exited.then(() => (ended = true))

  const saw = (words: string | RegExp, limitMs = 60_000) =>
    until(
      `the pod printing ${String(words)}; it printed:\n${output.slice(-3000)}`,
      () =>
        output
          .split('\n')
          .find((line) => (typeof words === 'string' ? line.includes(words) : words.test(line))),
      limitMs,
    )

  return {
    pid: child.pid ?? 0,
    child,
    output: () => output,
    saw,
    signal: (name) => void child.kill(name),
    exited,
    get isOver() {
      return ended
    },
  }
}

export async function startPodProcess(
  databaseUrl: string,
  env: Record<string, string> = {},
  options: StartOptions = {},
): Promise<PodProcess> {
  return whenUp(spawnPod(databaseUrl, env, options), options.limitMs)
}

export async function whenUp(child: PodChild, limitMs = 60_000): Promise<PodProcess> {
  const up = await until(
    'a pod coming up',
    () => {
      // One that was up and is no more was up: what it runs may have killed it at once.
      const line = child
        .output()
        .split('\n')
        .find((printed) => printed.includes('this pod is up'))
      if (!line && child.isOver) throw new Error(`the pod ended at its start:\n${child.output()}`)
      return line
    },
    limitMs,
  )
  const { pod, port } = JSON.parse(up) as { pod: string; port: number }
  return Object.assign(child, { id: pod, url: `http://127.0.0.1:${port}` })
}

/** Ends what a test left behind, by its own handle only. */
atEnd(async () => {
  for (const child of running) {
    child.kill('SIGCONT')
    child.kill('SIGKILL')
  }
  await until('the pods of this file to end', () => running.size === 0, 10_000)
})
