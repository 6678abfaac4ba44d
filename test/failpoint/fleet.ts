import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type postgres from 'postgres'
import type { Told } from '../chaos/caller.ts'
import { endOf, endPods } from '../recovery/fleet.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { post } from '../support/http.ts'
import { startPodProcess, type PodProcess } from '../support/processes.ts'
import { until } from '../support/until.ts'

/** Two pods, of which each can be armed at any time, and one is started anew for each that a cell has ended. */
export interface Fleet {
  readonly sql: postgres.Sql
  /** What was accepted, for the invariants of the whole. */
  readonly told: Told[]
  /** When both live and the elder leads: who is armed, and who lives on. */
  cast(role: Role): Promise<{ armed: ArmedPod; other: ArmedPod }>
  /** It has ended: another one starts meanwhile. */
  replace(pod: PodProcess): void
  end(): Promise<void>
}

/** A novice has not led yet: it does at once what a leader does but once a minute. */
export type Role = 'leader' | 'follower' | 'novice'

export interface ArmedPod extends PodProcess {
  arm(points: string): void
}

const HANDLERS = join(import.meta.dirname, '../chaos/handlers')
const ARM = join(import.meta.dirname, '../support/arm.ts')
const AUDIT = join(import.meta.dirname, '../chaos/audit.sql')
/** A machine that is busy with other things takes its time to start a pod. */
export const START_LIMIT_MS = 60_000
export const WAIT_MS = 40_000

/**
 * As fast as a busy machine allows. With a threshold of 2 s, at a load of 20 on two cores, 4 of some 240 pods were
 * declared dead after their birth, before their hearts could beat.
 */
const SETTINGS = {
  FLEET_Q_HANDLERS: HANDLERS,
  FLEET_Q_HEARTBEAT_SECONDS: '0.3',
  FLEET_Q_DEAD_AFTER_SECONDS: '3',
  FLEET_Q_RECOVERY_SECONDS: '0.2',
  FLEET_Q_POLL_SECONDS: '0.5',
  FLEET_Q_GRACE_SECONDS: '5',
}

const folder = mkdtempSync(join(tmpdir(), 'fleet-q-failpoints-'))
atEnd(() => rmSync(folder, { recursive: true, force: true }))
let armings = 0

/** At once or not at all: a pod may look at it at any moment. */
function write(path: string, points: string) {
  writeFileSync(`${path}.next`, points)
  renameSync(`${path}.next`, path)
}

/** How to start a pod that is armed from the beginning, and can be armed anew. */
export function armable(points = '') {
  const path = join(folder, `${armings++}`)
  write(path, points)
  return {
    env: { ...SETTINGS, TEST_FAILPOINTS_FILE: path },
    options: { nodeArgs: ['--import', ARM], limitMs: START_LIMIT_MS },
    arm: (next: string) => write(path, `${next} #${armings++}`),
  }
}

async function startArmable(url: string): Promise<ArmedPod> {
  const { env, options, arm } = armable()
  return Object.assign(await startPodProcess(url, env, options), { arm })
}

async function createFleet(): Promise<Fleet> {
  const { url, sql } = await testDatabase()
  await sql.unsafe(readFileSync(AUDIT, 'utf8'))
  let pods: ArmedPod[] = []
  let starting: Promise<ArmedPod>[] = [startArmable(url), startArmable(url)]
  for (const each of starting) each.catch(() => {})

  function replace(pod: PodProcess) {
    pods = pods.filter((each) => each !== pod)
    const next = startArmable(url)
    // It is awaited by the next cell.
    next.catch(() => {})
    starting.push(next)
  }

  async function pair(): Promise<[ArmedPod, ArmedPod]> {
    const started = await Promise.all(starting)
    starting = []
    pods.push(...started)
    for (const pod of pods)
      if (pod.isOver)
        throw new Error(`${pod.id} ended, and nobody asked it to:\n${pod.output().slice(-3000)}`)
    await sql`update fleet_q.pods set benched_until = null where benched_until is not null`
    return until(
      'two living pods, of which the elder leads',
      async () => {
        const rows = await sql<{ id: string; leads: boolean }[]>`
          select public_id as id, term is not null as leads
          from fleet_q.pods left join fleet_q.leader_terms as term on term.pod_id = pods.id and term.ended_at is null
          where status in ('live', 'draining') order by born_at, pods.id`
        const [elder, younger] = rows.map((row) => pods.find((pod) => pod.id === row.id))
        return rows.length === 2 && rows[0]?.leads && elder && younger && [elder, younger]
      },
      WAIT_MS,
    )
  }

  async function cast(role: Role): Promise<{ armed: ArmedPod; other: ArmedPod }> {
    const [leader, follower] = await pair()
    if (role === 'leader') return { armed: leader, other: follower }
    const [led] = await sql`
      select 1 from fleet_q.leader_terms join fleet_q.pods on pods.id = pod_id where public_id = ${follower.id}`
    if (role === 'follower' || !led) return { armed: follower, other: leader }
    follower.signal('SIGTERM')
    await endOf(follower, WAIT_MS)
    replace(follower)
    return cast(role)
  }

  async function end() {
    const started = await Promise.allSettled(starting)
    await endPods(...pods, ...started.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : [])))
  }

  return { sql, told: [], replace, end, cast }
}

/** Types that may run at most so often in the fleet; for all cells, so that the audit can hold them to it. */
async function setLimits(fleet: Fleet) {
  const { armed } = await fleet.cast('leader')
  for (const limit of [
    { type: 'limited', max_running: 3 },
    { type: 'single', max_running_per_key: 1 },
  ]) {
    const { status, body } = await post(armed.url, '/admin/limits', limit)
    if (status !== 200) throw new Error(`the limit was refused: ${JSON.stringify(body)}`)
  }
}

export async function prepareFleet(): Promise<Fleet> {
  const fleet = await createFleet()
  await setLimits(fleet)
  return fleet
}
