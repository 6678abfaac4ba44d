import { loadConfig } from '../config.ts'
import { startLocalPostgres } from '../db/local/start.ts'
import { silentLog } from '../kernel/log.ts'
import type { StepDefinition } from '../step/handler.ts'
import { gatherSteps } from './gather-steps.ts'
import { logOf } from './run-pod.ts'
import { startPod, type Pod } from './start-pod.ts'

export interface PodSettings {
  steps?: StepDefinition[]
  /** The same names as in the environment: { FLEET_Q_API_PORT: '0' }. process.env is not read. */
  settings?: Record<string, string | undefined>
  /** No log lines at all. */
  silent?: boolean
  /** Declared dead by the fleet. Without it the process ends, as a pod of its own would. */
  onFenced?: () => void
}

/** A pod inside a process of yours. It handles no signals: call stop() when you end. */
export async function createPod(options: PodSettings = {}): Promise<Pod> {
  const config = loadConfig(options.settings ?? {})
  const local = config.databaseUrl ? undefined : await startLocalPostgres({ dataDir: config.dataDir })
  try {
    const pod = await startPod({
      config,
      databaseUrl: local?.url ?? config.databaseUrl,
      steps: await gatherSteps(config, options.steps ?? [], false),
      log: options.silent ? silentLog() : logOf(config),
      onFenced: options.onFenced ?? (() => process.exit(1)),
    })
    return {
      ...pod,
      async stop(why) {
        await pod.stop(why)
        await local?.stop()
      },
    }
  } catch (error) {
    await local?.stop()
    throw error
  }
}
