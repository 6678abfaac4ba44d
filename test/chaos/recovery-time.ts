import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import postgres from 'postgres'
import { startLocalPostgres } from '../../src/db/local/start.ts'
import { createTemplate, withDatabase } from '../support/template.ts'
import { until } from '../support/until.ts'

/**
 * How long it takes until what a killed pod held runs elsewhere, with the settings that everybody gets: three pods
 * that hold long steps, one killed by SIGKILL, ten times over. node --import tsx test/chaos/recovery-time.ts
 *
 * Every second time it is the leader that is killed. Needs some four minutes, and a machine that is not busy.
 */

/** --kills 3 for a quick look. */
const KILLS = Number(parseArgs({ options: { kills: { type: 'string', default: '10' } } }).values.kills)
const PODS = 3
const HELD_MIN = 4
const PROMISE_SECONDS = 20
const STEP_MS = 3_600_000

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const HANDLERS = fileURLToPath(new URL('../recovery/handlers', import.meta.url))

interface Pod {
  id: string
  url: string
  pid: number
  child: ChildProcess
}

const folder = mkdtempSync(join(tmpdir(), 'fleet-q-recovery-time-'))
const startsFile = join(folder, 'starts')
const given = process.env['TEST_DATABASE_URL']
const local = given ? undefined : await startLocalPostgres({ dataDir: join(folder, 'data') })
const server = given ?? local?.url ?? ''
const { name, drop } = await createTemplate(server)
const url = withDatabase(server, name)
const sql = postgres(url, { max: 2, onnotice: () => {} })
const pods: Pod[] = []

/** No setting but where things are: everything that decides about time is the default. */
async function startPod(): Promise<Pod> {
  const child = spawn(process.execPath, ['--import', 'tsx', MAIN], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      DATABASE_URL: url,
      FLEET_Q_API_PORT: '0',
      FLEET_Q_HANDLERS: HANDLERS,
      FLEET_Q_LOG_FORMAT: 'json',
      // Room for what the killed one held.
      FLEET_Q_MAX_PARALLELISM: '40',
    },
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const line = await until('a pod to come up', () => {
    if (child.exitCode !== null) throw new Error(`a pod ended at its start:\n${output}`)
    return output.split('\n').find((each) => each.includes('this pod is up'))
  })
  const { pod, port } = JSON.parse(line) as { pod: string; port: number }
  return { id: pod, url: `http://127.0.0.1:${port}`, pid: child.pid ?? 0, child }
}

const starts = () => {
  try {
    return readFileSync(startsFile, 'utf8')
      .split('\n')
      .map((line) => line.split(' '))
      .map(([, step, , pid]) => ({ step, pid: Number(pid) }))
  } catch {
    return []
  }
}

const heldBy = async (pod: Pod) => {
  const rows = await sql<{ step: string }[]>`
    select fleet_q.step_public_id(steps.id, steps.salt, steps.created_at) as step
    from fleet_q.claims join fleet_q.pods on pods.id = claims.pod_id
    cross join unnest(claims.step_ids) as held (step_id) join fleet_q.steps on steps.id = held.step_id
    where pods.public_id = ${pod.id}
      and not exists (select from fleet_q.outcomes where outcomes.step_id = steps.id)`
  return rows.map((row) => row.step)
}

/** Each step long in its first attempt, and at once in the next: so each is recovered once, and none is poison. */
async function fillUp(pod: Pod) {
  await until('a pod to hold steps', async () => {
    if ((await heldBy(pod)).length >= HELD_MIN) return true
    const args = { file: startsFile, ms: STEP_MS }
    await fetch(`${pod.url}/submit`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ type: 'long-at-first', args }),
    })
    return undefined
  })
}

const leader = async () => {
  const [row] = await sql<{ id: string }[]>`
    select pods.public_id as id from fleet_q.leader_terms join fleet_q.pods on pods.id = leader_terms.pod_id
    where leader_terms.ended_at is null`
  return row?.id
}

async function measure(kill: number): Promise<number> {
  for (const pod of pods) await fillUp(pod)
  const leaderId = await leader()
  const victim = pods.find((pod) => (pod.id === leaderId) === (kill % 2 === 0)) ?? pods[0]
  if (!victim) throw new Error('no pod is left')
  const held = await heldBy(victim)
  await until('what it holds to run', () => held.every((step) => starts().some((each) => each.step === step)))
  // At any moment between two heartbeats: how lately it was heard of is part of what is measured.
  await new Promise((resolve) => setTimeout(resolve, Math.random() * 5000))
  pods.splice(pods.indexOf(victim), 1)
  const killedAt = performance.now()
  victim.child.kill('SIGKILL')
  await until(
    'its steps to run elsewhere',
    () => {
      const elsewhere = new Set(
        starts()
          .filter(({ pid }) => pid !== victim.pid)
          .map(({ step }) => step),
      )
      return held.every((step) => elsewhere.has(step))
    },
    120_000,
  )
  const seconds = (performance.now() - killedAt) / 1000
  const who = victim.id === leaderId ? 'the leader' : 'a pod'
  process.stdout.write(
    `kill ${String(kill + 1).padStart(2)}: ${who.padEnd(10)} that held ${held.length} steps   ${seconds.toFixed(2)} s\n`,
  )
  pods.push(await startPod())
  return seconds
}

const seconds: number[] = []
try {
  for (let pod = 0; pod < PODS; pod++) pods.push(await startPod())
  await until('a leader', leader)
  for (let kill = 0; kill < KILLS; kill++) seconds.push(await measure(kill))
} finally {
  for (const { child } of pods) child.kill('SIGKILL')
  await sql.end()
  await drop()
  await local?.stop()
  rmSync(folder, { recursive: true, force: true })
}

const sorted = seconds.toSorted((a, b) => a - b)
const worst = sorted.at(-1) ?? Number.POSITIVE_INFINITY
const median = ((sorted[(KILLS - 1) >> 1] ?? 0) + (sorted[KILLS >> 1] ?? 0)) / 2
process.stdout.write(
  `median ${median.toFixed(2)} s, worst ${worst.toFixed(2)} s; promised: ${PROMISE_SECONDS} s\n`,
)
process.exit(worst > PROMISE_SECONDS ? 1 : 0)
