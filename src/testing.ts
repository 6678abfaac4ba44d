import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient, type Client } from './client.ts'
import { startLocalPostgres } from './db/local/start.ts'
import { createPod } from './fleet/create-pod.ts'
import { withoutMemory } from './step/durable.ts'
import type { StepContext, StepDefinition } from './step/handler.ts'

/** What users need in tests of their own: a handler alone, or a whole pod on a Postgres that goes away again. */

export interface RunOptions extends Partial<Omit<StepContext, 'log' | 'progress'>> {
  /** Told of each log line. */
  onLog?: (level: string, message: string, data?: unknown) => void
  onProgress?: (percent: number, message?: string) => void
}

/** What a handler gets as ctx, without a pod. */
export function stepContext(type: string, options: RunOptions = {}): StepContext {
  const { onLog, onProgress, ...given } = options
  const line = (level: string) => (message: string, data?: unknown) => onLog?.(level, message, data)
  return {
    stepId: 'step_20260101000000_test00000000t1',
    type,
    attempt: 1,
    maxRetries: 3,
    metadata: {},
    tags: [],
    idempotencyKey: 'idem_test',
    signal: new AbortController().signal,
    log: { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') },
    progress: (percent, message) => onProgress?.(percent, message),
    tx: () => Promise.reject(new Error('runStep has no database: pass tx, or use startTestFleet')),
    ...withoutMemory('runStep remembers nothing: use startTestFleet'),
    ...given,
  }
}

/** Runs one handler once, without a database: arguments are checked as they would be, what it returns comes back. */
export async function runStep(
  definition: StepDefinition,
  args: unknown,
  options: RunOptions = {},
): Promise<unknown> {
  const parsed: unknown = definition.input ? definition.input.parse(args) : args
  return definition.run(parsed, stepContext(definition.type, options))
}

export interface TestFleet {
  readonly client: Client
  readonly url: string
  /** Of its Postgres, for looking. */
  readonly databaseUrl: string
  stop(): Promise<void>
}

/** A pod with these steps on a Postgres of its own in a temporary folder; `databaseUrl` uses one of yours. */
export async function startTestFleet(options: {
  steps: StepDefinition[]
  databaseUrl?: string
  settings?: Record<string, string>
}): Promise<TestFleet> {
  const dataDir = mkdtempSync(join(tmpdir(), 'fleet-q-'))
  const local = options.databaseUrl
    ? undefined
    : await startLocalPostgres({ dataDir, settings: { fsync: 'off', synchronous_commit: 'off' } })
  const databaseUrl = options.databaseUrl ?? local?.url ?? ''
  const cleanUp = async () => {
    await local?.stop()
    for (const folder of [local?.dataDir, dataDir])
      if (folder) rmSync(folder, { recursive: true, force: true })
  }
  try {
    const pod = await createPod({
      steps: options.steps,
      silent: true,
      settings: {
        FLEET_Q_API_PORT: '0',
        FLEET_Q_GRACE_SECONDS: '2',
        ...options.settings,
        DATABASE_URL: databaseUrl,
      },
    })
    const url = `http://${pod.address.host}:${pod.address.port}`
    return {
      client: createClient({ baseUrl: url }),
      url,
      databaseUrl,
      async stop() {
        await pod.stop()
        await cleanUp()
      },
    }
  } catch (error) {
    await cleanUp()
    throw error
  }
}
