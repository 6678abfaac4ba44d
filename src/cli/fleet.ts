import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createClient } from '../client.ts'
import { loadConfig } from '../config.ts'
import { startLocalPostgres } from '../db/local/start.ts'
import { FleetError } from '../errors.ts'
import { startLoad } from './load.ts'
import { spawnPod, type FleetPod } from './spawn-pod.ts'
import { createStory } from './story.ts'
import { wantsToken } from './wants-token.ts'

type Env = Record<string, string | undefined>

const PODS_MAX = 9

/** Several pods on one database under a steady load, and a story told of what happens when one is killed. */
export async function fleet(args: string[], env: Env): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { pods: { type: 'string', default: '3' }, rate: { type: 'string', default: '4' } },
  })
  const config = loadConfig(env)
  const stateFile = join(config.dataDir, 'fleet.json')
  if (positionals[0] === 'kill') return killFromOutside(stateFile, positionals[1])
  if (positionals.length > 0)
    throw new FleetError(
      'invalid_input',
      'fleet-q fleet starts a fleet; fleet-q fleet kill 2 kills its second pod',
    )
  const count = Number(values.pods)
  const rate = Number(values.rate)
  if (!Number.isInteger(count) || count < 1 || count > PODS_MAX)
    throw new FleetError('invalid_input', `--pods is a number from 1 to ${PODS_MAX}`)
  if (!(rate >= 0 && rate <= 1000))
    throw new FleetError('invalid_input', '--rate is a number of steps a second, 0 to 1000')

  const local = config.databaseUrl ? undefined : await startLocalPostgres({ dataDir: config.dataDir })
  const databaseUrl = local?.url ?? config.databaseUrl
  const clientOf = (baseUrl: string) =>
    createClient({ baseUrl, ...(config.token === '' ? {} : { token: config.token }) })
  const story = createStory(process.stdout, clientOf)
  const pods: FleetPod[] = []
  let ending = false

  async function start(number: number) {
    const pod = await spawnPod({ number, databaseUrl, port: config.apiPort + number - 1, env })
    pods[number - 1] = pod
    pod.onLine((line) => story.heard(number, line))
    void pod.exited.then(() => (ending ? undefined : died(pod)))
    writeState()
    story.started(pod)
    return pod
  }

  const writeState = () => {
    mkdirSync(config.dataDir, { recursive: true })
    writeFileSync(
      stateFile,
      JSON.stringify({ pid: process.pid, pods: pods.map(({ pid, id }) => ({ pid, id })) }),
    )
  }

  async function died(pod: FleetPod) {
    const survivor = pods.find((other) => other !== pod && !other.ended)
    story.died(pod)
    if (survivor) await story.follow(pod, survivor.url)
    if (ending) return
    // As Kubernetes would: a new pod takes the place, and is the youngest.
    await start(pod.number).catch((error: unknown) =>
      story.say(`pod ${pod.number} did not start again: ${String(error)}`),
    )
  }

  story.say(
    local ? `Postgres ${local.version} of its own in ${local.dataDir}` : 'on the Postgres of DATABASE_URL',
  )
  try {
    for (let number = 1; number <= count; number++) await start(number)
    await clientOf(pods[0]?.url ?? '')
      .getQueue()
      .catch(wantsToken)
  } catch (error) {
    ending = true
    for (const pod of pods) pod.signal('SIGTERM')
    await Promise.all(pods.map((pod) => pod.exited))
    await local?.stop()
    throw error
  }
  const load = startLoad(clientOf, () => pods.filter((pod) => !pod.ended).map((pod) => pod.url), rate)
  story.say(
    `${rate} steps a second are submitted; ${process.stdout.isTTY ? 'the last line' : 'a line every 5 s'} tells how the fleet is`,
  )
  story.say(
    process.stdin.isTTY
      ? `press ${pods.map((pod) => pod.number).join(', ')} to kill that pod with SIGKILL, q to end`
      : 'in another terminal: npm run fleet -- kill 2',
  )
  const pulse = setInterval(
    () =>
      void story.pulse(
        pods.filter((pod) => !pod.ended),
        load.counts(),
      ),
    1000,
  )

  const end = async () => {
    if (ending) process.exit(130)
    ending = true
    clearInterval(pulse)
    load.stop()
    story.say('stopping: the pods finish what they hold')
    for (const pod of pods) pod.signal('SIGTERM')
    await Promise.all(pods.map((pod) => pod.exited))
    rmSync(stateFile, { force: true })
    await local?.stop()
    const { submitted } = load.counts()
    story.say(`${submitted} steps were submitted; what did not run yet is kept and runs at the next start`)
    process.exit(0)
  }
  process.on('SIGINT', () => void end())
  process.on('SIGTERM', () => void end())
  readKeys((key) => {
    if (key === 'q' || key === '\u0003') void end()
    const pod = pods[Number(key) - 1]
    if (pod && !pod.ended) pod.signal('SIGKILL')
  })
}

function readKeys(onKey: (key: string) => void) {
  if (!process.stdin.isTTY) return
  process.stdin.setRawMode(true)
  process.stdin.on('data', (data: Buffer) => onKey(data.toString()))
}

function killFromOutside(stateFile: string, which: string | undefined) {
  const number = Number(which)
  let state: { pods: { pid: number; id: string }[] }
  try {
    state = JSON.parse(readFileSync(stateFile, 'utf8')) as typeof state
  } catch {
    throw new FleetError(
      'not_running',
      'No fleet is running here. Start one in another terminal: npm run fleet',
    )
  }
  const pod = state.pods[number - 1]
  if (!pod) throw new FleetError('invalid_input', `Say which pod: a number from 1 to ${state.pods.length}`)
  try {
    process.kill(pod.pid, 'SIGKILL')
  } catch {
    throw new FleetError('not_running', `Pod ${number} (${pod.id}) is not running any more.`)
  }
  process.stdout.write(
    `pod ${number} (${pod.id}, process ${pod.pid}) was killed with SIGKILL; the fleet's terminal tells what happens\n`,
  )
}
