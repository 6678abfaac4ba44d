import { loadConfig } from '../../src/config.ts'
import { startPod, type Pod } from '../../src/fleet/start-pod.ts'
import { silentLog, type Log } from '../../src/kernel/log.ts'
import type { StepDefinition } from '../../src/step/handler.ts'
import { FAST } from './processes.ts'
import { atEnd } from './cleanup.ts'

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
    config: loadConfig({ FLEET_Q_API_PORT: '0', ...FAST, FLEET_Q_GRACE_SECONDS: '2', ...env }),
    databaseUrl,
    steps: steps.map((definition) => ({ definition })),
    log,
    onFenced: fence,
  })
  atEnd(() => pod.stop())
  return Object.assign(pod, { url: `http://127.0.0.1:${pod.address.port}`, fenced })
}
