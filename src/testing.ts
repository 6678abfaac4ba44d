import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient, type Client } from './client.ts'
import { loadConfig } from './config.ts'
import { connect } from './db/connect.ts'
import { startLocalPostgres } from './db/local/start.ts'
import { gatherSteps } from './fleet/gather-steps.ts'
import { startPod } from './fleet/start-pod.ts'
import { silentLog } from './kernel/log.ts'
import { withoutMemory, type Duration } from './step/durable.ts'
import type { StepContext, StepDefinition } from './step/handler.ts'
import { AHEAD_DAYS_MAX, startClock } from './testing/clock.ts'
import { createCrashes } from './testing/crash.ts'
import { testExecution, type StartOptions, type TestExecution } from './testing/execution.ts'

export { ExecutionFailed, type AtRest, type StartOptions, type TestExecution } from './testing/execution.ts'

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
  /** Starts an execution. The same id started again is the same execution. */
  start(
    step: StepDefinition | string,
    args?: Record<string, unknown>,
    options?: StartOptions,
  ): Promise<TestExecution>
  /** Moves the clock of the fleet ahead: what is due by then becomes due. Milliseconds, or words such as '30 days'. */
  advance(span: Duration): Promise<void>
  /** By the clock of the fleet. */
  now(): Date
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
  const ends: (() => Promise<unknown> | void)[] = [
    () => {
      for (const folder of [local?.dataDir, dataDir])
        if (folder) rmSync(folder, { recursive: true, force: true })
    },
    () => local?.stop(),
  ]
  const stop = async () => {
    for (const end of ends.splice(0).toReversed()) await end()
  }
  try {
    const config = loadConfig({
      FLEET_Q_API_PORT: '0',
      FLEET_Q_GRACE_SECONDS: '2',
      // What has ended can be looked at, however many months a test lets pass.
      ...(local ? { FLEET_Q_RETENTION_DAYS: String(AHEAD_DAYS_MAX) } : {}),
      ...options.settings,
      DATABASE_URL: databaseUrl,
    })
    const database = connect({
      url: databaseUrl,
      name: 'fleet-q test fleet',
      max: 3,
      pooler: config.databasePooler,
      deadlineMs: 10_000,
    })
    ends.push(() => database.close())
    const crashes = createCrashes(database)
    const pod = await startPod({
      config,
      databaseUrl,
      steps: await gatherSteps(config, options.steps, false),
      log: silentLog(),
      onFenced: () => process.exit(1),
      standBetween: crashes.standBetween,
    })
    ends.push(() => pod.stop())
    const clock = await startClock(database, local !== undefined)
    const url = `http://${pod.address.host}:${pod.address.port}`
    const client = createClient({ baseUrl: url })
    return {
      client,
      url,
      databaseUrl,
      async start(step, args = {}, { id, ...rest } = {}) {
        const started = await client.startExecution({
          ...rest,
          ...(id === undefined ? {} : { execution_id: id }),
          task_name: typeof step === 'string' ? step : step.type,
          payload: args,
        })
        return testExecution({ client, database, clock, crashes }, started)
      },
      advance: clock.advance,
      now: clock.now,
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}
