import { setTimeout as rest } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import postgres from 'postgres'
import { atEnd, endNow } from '../support/cleanup.ts'
import { get, post } from '../support/http.ts'
import { startOwnPostgres } from '../support/postgres.ts'
import { startPodProcess, type PodProcess } from '../support/processes.ts'
import { createTemplate, withDatabase } from '../support/template.ts'
import { until } from '../support/until.ts'

/**
 * npm run test:asleep -- [--executions N]: a hundred thousand executions sleep or wait for an event. What that costs a pod,
 * and the work beside them, against the same pod with nothing there.
 */

const { values } = parseArgs({ options: { executions: { type: 'string', default: '100000' } } })
const EXECUTIONS = Number(values.executions)
const BATCH = 1000
const SETTLE_MS = 6000
const WATCH_MS = 15_000
const QUICK = 300
/** Both are measured in the same run; what executions cost each second would be thousands of times as much. */
const DEARER_MAX = 2.5

const say = (line: string) => process.stdout.write(`${line}\n`)
const faults: string[] = []
const median = (times: number[]) => times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0

const server = await startOwnPostgres()
const url = withDatabase(server.url, (await createTemplate(server.url)).name)
const sql = postgres(url, { max: 1 })
atEnd(() => sql.end({ timeout: 1 }))

async function startPod(capacity: number): Promise<PodProcess> {
  const pod = await startPodProcess(url, {
    FLEET_Q_HANDLERS: fileURLToPath(new URL('./handlers', import.meta.url)),
    FLEET_Q_MAX_PARALLELISM: String(capacity),
    FLEET_Q_CAPACITY_PERCENT: '100',
    // Those that everybody gets.
    FLEET_Q_HEARTBEAT_SECONDS: '5',
    FLEET_Q_DEAD_AFTER_SECONDS: '15',
    FLEET_Q_STALL_SECONDS: '60',
    FLEET_Q_RATE_LIMIT: '0',
  })
  atEnd(() => pod.signal('SIGKILL'))
  return pod
}

const transactions = async () => {
  const [row] = await sql<{ n: number }[]>`
    select xact_commit::int as n from pg_stat_database where datname = current_database()`
  return row?.n ?? 0
}

interface Cost {
  megabytes: number
  perSecond: number
  quickMs: number
}

/** A pod that has nothing to do, and then steps that come one by one. */
async function weigh(): Promise<Cost> {
  const pod = await startPod(8)
  await rest(SETTLE_MS)
  const before = { n: await transactions(), at: performance.now() }
  await rest(WATCH_MS)
  // What a session has done is told with a delay of up to 10 s, at both ends alike.
  const perSecond = ((await transactions()) - before.n) / ((performance.now() - before.at) / 1000)
  const page = await (await fetch(`${pod.url}/metrics`)).text()
  const megabytes = Number(/^fleet_q_process_resident_bytes (\d+)/m.exec(page)?.[1]) / 1024 / 1024
  const times: number[] = []
  for (let n = 0; n < QUICK; n++) {
    const begun = performance.now()
    const { body } = await post(pod.url, '/submit', { type: 'quick', args: {} })
    const { body: end } = await get(pod.url, `/status/${String(body['step_id'])}?wait_seconds=10`)
    if (end['status'] !== 'completed') faults.push(`a step beside them is ${String(end['status'])}`)
    times.push(performance.now() - begun)
  }
  pod.signal('SIGTERM')
  await pod.exited
  return { megabytes, perSecond, quickMs: median(times) }
}

async function putToSleep() {
  const pod = await startPod(500)
  const begun = performance.now()
  for (let n = 0; n < EXECUTIONS; n += BATCH) {
    const steps = Array.from({ length: BATCH }, (_, i) => ({ type: i % 2 === 0 ? 'nap' : 'waits', args: {} }))
    await post(pod.url, '/submit/batch', { steps })
  }
  await until(
    'all to be asleep',
    async () => {
      const [row] = await sql<{ n: number }[]>`
        select count(*)::int as n from fleet_q.later where why in ('sleep', 'wait')`
      return row?.n === EXECUTIONS
    },
    300_000,
  )
  const seconds = (performance.now() - begun) / 1000
  say(`${EXECUTIONS} executions were submitted, ran and went to sleep in ${seconds.toFixed(0)} s`)
  pod.signal('SIGTERM')
  await pod.exited
}

try {
  const alone = await weigh()
  await putToSleep()
  const beside = await weigh()
  const line = (what: string, of: (cost: Cost) => number, unit: string) => {
    const ratio = of(beside) / of(alone)
    say(
      `${what}: ${of(alone).toFixed(2)} ${unit} with nothing there, ${of(beside).toFixed(2)} beside them (${ratio.toFixed(2)} x)`,
    )
    if (ratio > DEARER_MAX) faults.push(`${what} is ${ratio.toFixed(2)} x, at most ${DEARER_MAX} is expected`)
  }
  line('memory of an idle pod', (cost) => cost.megabytes, 'MB')
  line('transactions of an idle pod', (cost) => cost.perSecond, 'a second')
  line('a quick step, asked for over HTTP', (cost) => cost.quickMs, 'ms')
  for (const fault of faults) say(`BROKEN  ${fault}`)
  say(faults.length === 0 ? 'they cost a pod nothing' : `${faults.length} faults`)
} finally {
  await endNow()
}
process.exit(faults.length === 0 ? 0 : 1)
