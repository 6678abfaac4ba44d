import { connect } from 'node:net'
import postgres from 'postgres'
import { atEnd, endNow } from '../support/cleanup.ts'
import { get, post } from '../support/http.ts'
import { startOwnPostgres } from '../support/postgres.ts'
import { startPodProcess, type PodProcess } from '../support/processes.ts'
import { createTemplate, withDatabase } from '../support/template.ts'
import { until } from '../support/until.ts'

/**
 * npm run test:long-polls: ten thousand requests wait at one pod for steps that nobody handles, while others are served.
 * Then all of those steps are cancelled, and each request must be answered. Prints what waiting costs.
 */

const WAITING = 10_000
const AT_ONCE = 250
const BATCH = 1000
const SUBMITS = 300
/** Waiting may make a submit so much slower, in the median; both are measured in the same run. */
const SLOWER_MAX = 2

const say = (line: string) => process.stdout.write(`${line}\n`)
const faults: string[] = []
const must = (holds: boolean, what: string) => {
  if (!holds) faults.push(what)
}

async function residentMb(pod: PodProcess): Promise<number> {
  const page = await (await fetch(`${pod.url}/metrics`)).text()
  return Number(/^fleet_q_process_resident_bytes (\d+)/m.exec(page)?.[1]) / 1024 / 1024
}

async function waitingAt(pod: PodProcess): Promise<number> {
  const page = await (await fetch(`${pod.url}/metrics`)).text()
  return Number(/^fleet_q_pod_waiting (\d+)/m.exec(page)?.[1])
}

async function medianSubmitMs(pod: PodProcess): Promise<number> {
  const times: number[] = []
  for (let n = 0; n < SUBMITS; n++) {
    const begun = performance.now()
    const reply = await post(pod.url, '/submit', { type: 'polite', args: { n } })
    times.push(performance.now() - begun)
    must(reply.status === 201, `a submit was answered ${reply.status}`)
  }
  return times.toSorted((a, b) => a - b)[SUBMITS / 2] ?? 0
}

/** A request that waits, as bare as can be: ten thousand of fetch would be measured, not the pod. */
function askOnce(pod: PodProcess, stepId: string): Promise<string> {
  const { hostname, port } = new URL(pod.url)
  const socket = connect(Number(port), hostname)
  let text = ''
  const answer = new Promise<string>((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (text.includes('\r\n\r\n') && text.endsWith('}')) socket.end()
    })
    socket.on('error', (error) => resolve(String(error)))
    socket.on('close', () => resolve(text))
  })
  socket.write(
    `GET /status/${stepId}?wait_seconds=30 HTTP/1.1\r\nhost: ${hostname}\r\nconnection: close\r\n\r\n`,
  )
  return answer
}

/** Asks again where the time was over, as a client does. */
async function waitFor(pod: PodProcess, stepId: string): Promise<string> {
  for (;;) {
    const answer = await askOnce(pod, stepId)
    if (!answer.startsWith('HTTP/1.1 200') || !answer.includes('"tray":"ready"')) return answer
  }
}

async function run() {
  const server = await startOwnPostgres()
  const url = withDatabase(server.url, (await createTemplate(server.url)).name)
  const sql = postgres(url, { max: 1 })
  atEnd(() => sql.end({ timeout: 1 }))
  const pod = await startPodProcess(url, { FLEET_Q_LOG_LEVEL: 'info', FLEET_Q_DEAD_AFTER_SECONDS: '6' })
  atEnd(() => pod.signal('SIGKILL'))
  const transactions = async () => {
    const [row] = await sql<{ n: number }[]>`
      select xact_commit::int as n from pg_stat_database where datname = current_database()`
    return row?.n ?? 0
  }

  const ids: string[] = []
  while (ids.length < WAITING) {
    const steps = Array.from({ length: BATCH }, () => ({ type: 'nobody.handles', args: {} }))
    ids.push(...((await post(pod.url, '/submit/batch', { steps })).body['step_ids'] as string[]))
  }
  await medianSubmitMs(pod)
  const aloneMs = await medianSubmitMs(pod)
  const aloneMb = await residentMb(pod)

  const begun = performance.now()
  const waits: Promise<string>[] = []
  while (waits.length < WAITING) {
    for (const id of ids.slice(waits.length, waits.length + AT_ONCE)) waits.push(waitFor(pod, id))
    await until('those to be let in', async () => (await waitingAt(pod)) > waits.length - AT_ONCE / 2)
  }
  say(`${WAITING} wait after ${((performance.now() - begun) / 1000).toFixed(1)} s`)
  const besideMb = await residentMb(pod)
  const before = { at: performance.now(), n: await transactions() }
  const besideMs = await medianSubmitMs(pod)
  const during = ((await transactions()) - before.n) / ((performance.now() - before.at) / 1000)

  const cancelledAt = performance.now()
  const cancel = await post(pod.url, '/steps/cancel', { filter: { type: 'nobody.handles' }, limit: 10_000 })
  const answers = await Promise.all(waits)
  const answeredMs = performance.now() - cancelledAt
  const right = answers.filter(
    (text) => text.startsWith('HTTP/1.1 200') && text.includes('"status":"cancelled"'),
  )
  must(cancel.body['changed'] === WAITING, `${String(cancel.body['changed'])} steps were cancelled`)
  must(right.length === WAITING, `${right.length} of ${WAITING} were answered with the outcome`)
  await until('nobody to wait', async () => (await waitingAt(pod)) === 0)
  must((await get(pod.url, '/health')).status === 200, 'the pod is not well')
  must(besideMs <= SLOWER_MAX * aloneMs, `a submit takes ${(besideMs / aloneMs).toFixed(2)} x as long`)

  say(
    `a submit: ${aloneMs.toFixed(2)} ms alone, ${besideMs.toFixed(2)} ms beside them (median of ${SUBMITS}, ${(besideMs / aloneMs).toFixed(2)} x)`,
  )
  say(
    `memory: ${aloneMb.toFixed(0)} MB alone, ${besideMb.toFixed(0)} MB beside them: ${(((besideMb - aloneMb) * 1024) / WAITING).toFixed(1)} kB each`,
  )
  say(`the database: ${during.toFixed(0)} transactions a second in all while they waited, submits among them`)
  say(`all were cancelled, and all were answered, in ${(answeredMs / 1000).toFixed(1)} s`)
  for (const fault of faults) say(`BROKEN  ${fault}`)
  say(faults.length === 0 ? 'every wait was answered' : `${faults.length} faults`)
}

try {
  await run()
} finally {
  await endNow()
}
process.exit(faults.length === 0 ? 0 : 1)
