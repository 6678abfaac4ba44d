import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface FleetPod {
  readonly number: number
  readonly id: string
  readonly pid: number
  readonly url: string
  readonly ended: boolean
  readonly exited: Promise<void>
  signal(name: NodeJS.Signals): void
  onLine(heard: (line: Record<string, unknown>) => void): void
}

export interface SpawnOptions {
  number: number
  databaseUrl: string
  port: number
  env: Record<string, string | undefined>
}

const START_LIMIT_MS = 20_000

/** A pod as a process of its own, so that it can be killed. Its log comes back as lines of JSON. */
export async function spawnPod({ number, databaseUrl, port, env }: SpawnOptions): Promise<FleetPod> {
  const compiled = !import.meta.url.endsWith('.ts')
  const main = fileURLToPath(new URL(compiled ? '../main.js' : '../main.ts', import.meta.url))
  const child = spawn(process.execPath, [...(compiled ? [] : ['--import', 'tsx']), main], {
    // Not in our process group: Ctrl-C is for the fleet, which ends its pods in good order.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...env,
      DATABASE_URL: databaseUrl,
      FLEET_Q_API_PORT: String(port),
      FLEET_Q_POD_NAME: env['FLEET_Q_POD_NAME'] ?? `demo-${number}`,
      FLEET_Q_DEMO: '1',
      FLEET_Q_LOG_FORMAT: 'json',
      FLEET_Q_LOG_LEVEL: 'info',
    },
  })
  let ended = false
  const exited = new Promise<void>((resolve) => child.once('exit', () => ((ended = true), resolve())))
  const listeners: ((line: Record<string, unknown>) => void)[] = []
  let errors = ''
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()))
  const up = new Promise<{ pod: string }>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`pod ${number} did not come up within ${START_LIMIT_MS / 1000} s`)),
      START_LIMIT_MS,
    )
    void exited.then(() => reject(new Error(errors.trim() || `pod ${number} ended at its start`)))
    createInterface({ input: child.stdout }).on('line', (text) => {
      const line = parse(text)
      if (!line) return
      if (line['msg'] === 'this pod is up') {
        clearTimeout(timer)
        resolve(line as { pod: string })
      }
      for (const heard of listeners) heard(line)
    })
  })
  const { pod } = await up
  return {
    number,
    id: pod,
    pid: child.pid ?? 0,
    url: `http://127.0.0.1:${port}`,
    get ended() {
      return ended
    },
    exited,
    signal: (name) => void child.kill(name),
    onLine: (heard) => void listeners.push(heard),
  }
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return undefined
  }
}
