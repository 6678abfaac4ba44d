import { loadConfig } from '../../src/config.ts'
import { startPod, type Pod } from '../../src/fleet/start-pod.ts'
import { silentLog, type Log } from '../../src/kernel/log.ts'
import type { StepDefinition } from '../../src/step/handler.ts'
import { FAST } from './processes.ts'
import { atEnd } from './cleanup.ts'

/** A pod that shares its process with a test is not to die of a busy machine. */
const PATIENT = { FLEET_Q_DEAD_AFTER_SECONDS: '10', FLEET_Q_STALL_SECONDS: '60', FLEET_Q_GRACE_SECONDS: '2' }

/** A pod inside the test's process: fast to start; for everything but death. */
export async function startTestPod(
  databaseUrl: string,
  steps: StepDefinition[],
  env: Record<string, string> = {},
  log: Log = silentLog(),
): Promise<Pod & { url: string; fenced: Promise<void> }> {
  let fence: () => void = () => {}
  const fenced = new Promise<void>((resolve) => (fence = resolve))
  const pod = await startPod({
    config: loadConfig({ FLEET_Q_API_PORT: '0', ...FAST, ...PATIENT, ...env }),
    databaseUrl,
    steps: steps.map((definition) => ({ definition })),
    log,
    onFenced: fence,
    checkAnswers: true,
  })
  atEnd(() => pod.stop())
  return Object.assign(pod, { url: `http://127.0.0.1:${pod.address.port}`, fenced })
}
