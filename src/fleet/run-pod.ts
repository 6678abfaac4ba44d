import { loadConfig, type Config } from '../config.ts'
import { startLocalPostgres, type LocalPostgres } from '../db/local/start.ts'
import { createLog, type Log } from '../kernel/log.ts'
import { prettyLines } from '../kernel/pretty.ts'
import { trimHeap } from '../kernel/trim.ts'
import type { StepDefinition } from '../step/handler.ts'
import { banner } from './banner.ts'
import { gatherSteps } from './gather-steps.ts'
import { startPod, type Pod } from './start-pod.ts'

/** How often a pod that npm started looks whether its shell is still there. */
const LOOK_FOR_NPM_MS = 250
/** A crashed pod that cannot even say so in this time is ended all the same. */
const CRASH_LIMIT_MS = 3000

/** A pod as a process: from the environment to the exit code. Never throws for what a person can mend. */
export async function runPod(
  env: Record<string, string | undefined>,
  inCode: StepDefinition[] = [],
): Promise<void> {
  const config = loadConfig(env)
  const log = logOf(config)
  const startedAt = performance.now()
  const signals = hearSignals(env['npm_lifecycle_event'] !== undefined)
  const local = config.databaseUrl ? undefined : await startLocalPostgres({ dataDir: config.dataDir })
  let pod: Pod
  try {
    pod = await startPod({
      config,
      databaseUrl: local?.url ?? config.databaseUrl,
      steps: await gatherSteps(config, inCode, local !== undefined),
      log,
      onFenced: () => process.exit(1),
    })
  } catch (error) {
    await local?.stop()
    throw error
  }
  if (isPretty(config)) process.stdout.write(banner({ pod, local, startMs: performance.now() - startedAt }))
  else log.info({ pod: pod.id, ...pod.address, database: local ? 'local' : 'given' }, 'this pod is up')
  endOnSignals(pod, local, log, signals)
  trimHeap()
}

interface Signals {
  /** Called at once where a signal came before the pod was up. */
  endBy(end: (signal: NodeJS.Signals) => void): void
}

/**
 * From the first moment on: a process that is number 1 of its container gets no SIGTERM at all that it does not listen
 * to, and would be killed when its grace is over. Under `npm start` a SIGTERM to npm ends the shell between npm and the
 * pod, and never reaches the pod (npm 11 with dash): it would go on unseen, on its port. So the end of that shell counts
 * as the signal.
 */
function hearSignals(underNpm: boolean): Signals {
  let early: NodeJS.Signals | undefined
  let act = (signal: NodeJS.Signals) => {
    if (early !== undefined && signal === 'SIGINT') process.exit(130)
    early = signal
  }
  process.on('SIGTERM', (signal) => act(signal))
  process.on('SIGINT', (signal) => act(signal))
  if (underNpm) {
    const shell = process.ppid
    const look = setInterval(() => {
      if (process.ppid === shell) return
      clearInterval(look)
      act('SIGTERM')
    }, LOOK_FOR_NPM_MS).unref()
  }
  return {
    endBy(end) {
      act = end
      if (early !== undefined) end(early)
    },
  }
}

function endOnSignals(pod: Pod, local: LocalPostgres | undefined, log: Log, signals: Signals) {
  let ending = false
  const end = (signal: NodeJS.Signals) => {
    if (ending) {
      // Asked twice: a person who will not wait. What is held is recovered by the others.
      if (signal === 'SIGINT') process.exit(130)
      return
    }
    ending = true
    log.info({ signal }, 'stopping: no new steps; those that run may finish')
    pod
      .stop(`stopped by ${signal}`)
      .then(() => local?.stop())
      .then(
        () => process.exit(0),
        (error: unknown) => {
          log.error({ err: error }, 'the stop was not clean')
          process.exit(1)
        },
      )
  }
  signals.endBy(end)
  const crash = (error: unknown) => {
    setTimeout(() => process.exit(1), CRASH_LIMIT_MS)
    void pod.crash(error).finally(() => process.exit(1))
  }
  process.on('uncaughtException', crash)
  process.on('unhandledRejection', crash)
}

/** For people: on a terminal, and wherever a pod brings its own Postgres, for that is development. */
const isPretty = (config: Config) =>
  config.logFormat === 'pretty' ||
  (config.logFormat === 'auto' && (process.stdout.isTTY || !config.databaseUrl))

export const logOf = (config: Config): Log =>
  createLog(config.logLevel, isPretty(config) ? prettyLines(process.stdout) : undefined)
