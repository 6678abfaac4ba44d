import { join } from 'node:path'
import { until } from '../support/until.ts'
import { checkAll, loadHistory, measureRecovery, type Verdict } from './check/check.ts'
import { compareCounts } from './check/counts.ts'
import { GAPS } from './check/invariants.ts'
import { strangeEnd } from './check/strange-end.ts'
import { createCaller } from './caller.ts'
import { createClient } from './client.ts'
import { createExecutions } from './executions.ts'
import { DEAD_AFTER_SECONDS } from './keep-pod.ts'
import { unleash } from './nemesis.ts'
import type { Plan } from './plan.ts'
import { countFaults, type Report } from './report.ts'
import { makeWorld, type World } from './world.ts'

/**
 * After the last fault what is left is worked through, however long that takes: a backlog is no loss. Nothing more comes
 * of what has settled no step for so long: three thresholds, and the longest rest before a retry.
 */
const STILL_LIMIT_MS = 3 * DEAD_AFTER_SECONDS * 1000 + 90_000

const LOOK_EVERY_MS = 1000

/** One run, from the empty server to the verdict. */
export async function runPlan(plan: Plan, folder: string, say: (line: string) => void): Promise<Report> {
  const startedAt = new Date()
  const world = await makeWorld({ folder, pods: plan.pods, say })
  const caller = createCaller(world, join(folder, 'history.jsonl'))
  const client = createClient(caller, plan)
  const executions = createExecutions(caller, plan)
  const told = setInterval(
    () =>
      say(
        `${client.accepted} of ${plan.steps} steps and ${executions.accepted} of ${plan.executions} executions accepted`,
      ),
    10_000,
  )
  const [happened] = await Promise.all([unleash(world, plan.faults), client.run(), executions.run()])
  clearInterval(told)
  await caller.end()
  say('the faults are over; waiting for what is left')
  const quietAt = performance.now()
  const live = await workOff(world)
  if (!live) await tellWhatIsLeft(world)
  const quietMs = Math.round(performance.now() - quietAt)
  const counts = live ? await askCounts(world) : []
  await stopPods(world)
  say('checking')
  for (const { beganAt, endedAt } of happened.filter((each) => each.isOutage))
    await world.sql`insert into chaos.outages (began_at, ended_at) values (${beganAt}, ${endedAt})`
  await loadHistory(world.sql, caller.told, world.effects)
  const verdicts = await checkAll(world.sql)
  const recovery = await measureRecovery(world.sql)
  verdicts.push(
    ours(
      'I18',
      'what a killed pod held is claimed again within two thresholds, in 99 of 100 cases',
      recovery.kills >= KILLS_THAT_TELL && recovery.p99Ms > 2000 * DEAD_AFTER_SECONDS
        ? [`p99 ${recovery.p99Ms} ms over ${recovery.steps} steps; the worst were held by ${recovery.worst}`]
        : [],
    ),
    ours('I19', 'no answer is a failure, but 503 while the database is away', caller.strange.slice(0, 3)),
    ours('I20', 'what pods say of the queue is what SQL counts', counts),
    ours(
      'E1',
      'no pod ends by itself',
      world.slots
        .flatMap((slot) => slot.ends)
        .flatMap(strangeEnd)
        .slice(0, 3),
    ),
  )
  const [totals] = await world.sql<Report['totals'][]>`
    select (select count(*)::int from fleet_q.steps) as steps,
      (select count(*)::int from chaos.audit where what = 'settled') as settled,
      (select count(*)::int from fleet_q.attempts where ended = 'pod_died') as died_under,
      (select coalesce(sum(refused), 0)::int from fleet_q.pods) as refused,
      (select count(*)::int from fleet_q.dead_letters where reason = 'poison') as poison,
      (select count(*)::int from fleet_q.pods) as pods,
      (select count(*)::int from fleet_q.leader_terms) as terms,
      (select count(*)::int from chaos.audit where what = 'remembered') as checkpoints,
      (select count(*)::int from fleet_q.events) as events`
  return {
    seed: plan.seed,
    startedAt: startedAt.toISOString(),
    seconds: Math.round((Date.now() - startedAt.getTime()) / 1000),
    accepted: client.accepted,
    executions: executions.accepted,
    faults: countFaults(happened),
    happened,
    quietMs,
    verdicts,
    gaps: GAPS,
    recovery,
    totals: totals ?? NOTHING,
    broken: verdicts.filter((verdict) => verdict.witnesses.length > 0).length,
  }
}

const NOTHING: Report['totals'] = {
  steps: 0,
  settled: 0,
  died_under: 0,
  refused: 0,
  poison: 0,
  pods: 0,
  terms: 0,
  checkpoints: 0,
  events: 0,
}

const ours = (id: string, says: string, witnesses: string[]): Verdict => ({ id, says, witnesses, ms: 0 })

/** True: nothing is left. */
async function workOff({ sql }: World): Promise<boolean> {
  let settled = -1
  let settledAt = performance.now()
  while (performance.now() - settledAt < STILL_LIMIT_MS) {
    const [row] = await sql<{ open: boolean; settled: number }[]>`
      select exists (select from fleet_q.claims)
        or exists (select from fleet_q.later where not exists (
          select from fleet_q.outcomes where outcomes.step_id = later.step_id))
        or exists (select from fleet_q.ready where not exists (
          select from fleet_q.outcomes where outcomes.step_id = ready.step_id)) as open,
        (select count(*)::int from fleet_q.outcomes) as settled`.catch(() => [])
    if (row && !row.open) return true
    if (row && row.settled !== settled) {
      settled = row.settled
      settledAt = performance.now()
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS))
  }
  return false
}

/** While the pods are still there to be asked. */
async function tellWhatIsLeft(world: World) {
  const rows = await world.sql<{ line: string }[]>`
    select format('claim %s of %s (%s, beat %s ago), taken %s ago: %s steps, %s of them open, for example %s of type %s',
      claims.id, pods.public_id, pods.status, clock_timestamp() - pods.beat_at, clock_timestamp() - taken_at,
      cardinality(step_ids), count(*) filter (where left_over.step_id is not null), min(left_over.step_id), min(lanes.type)) as line
    from fleet_q.claims join fleet_q.pods on pods.id = claims.pod_id
    left join lateral (
      select held.step_id from unnest(claims.step_ids) as held (step_id)
      where not exists (select from fleet_q.outcomes where outcomes.step_id = held.step_id)
        and not exists (
          select from fleet_q.attempts where attempts.step_id = held.step_id and attempts.claim_id = claims.id)
    ) as left_over on true
    left join fleet_q.steps on steps.id = left_over.step_id left join fleet_q.lanes on lanes.id = steps.lane_id
    group by claims.id, pods.id
    union all select format('%s in ready', count(*)) from fleet_q.ready having count(*) > 0
    union all select format('%s in later', count(*)) from fleet_q.later having count(*) > 0`
  for (const { line } of rows) world.say(`left: ${line}`)
}

/** A pod is up again in some seconds, and a connection that died without a word is given up after ten. */
const COUNTS_LIMIT_MS = 40_000

/** A percentile of a few kills is their worst. */
const KILLS_THAT_TELL = 50

/**
 * The first that is asked answers for all: they look in the same tables. The last fault may have left nobody to ask, or
 * one whose connections are gone: he tells of the queue when he has new ones.
 */
async function askCounts(world: World): Promise<string[]> {
  const page = await until(
    'a pod to tell of the queue',
    async () => {
      const { pod } = world.podBy(0) ?? {}
      const told = pod && (await get(pod.url, '/metrics'))
      return told?.includes('fleet_q_steps_') && told
    },
    COUNTS_LIMIT_MS,
  ).catch(() => undefined)
  if (page === undefined) return ['no pod tells of the queue']
  const rows = await world.sql<{ status: string; n: number }[]>`
    select status, count(*)::int as n from fleet_q.outcomes group by status`
  return compareCounts(
    page,
    new Map(rows.map(({ status, n }) => [`fleet_q_steps_settled{status="${status}"}`, n])),
  )
}

const get = async (url: string, path: string) => {
  const signal = AbortSignal.timeout(COUNTS_LIMIT_MS / 4)
  return fetch(`${url}${path}`, { signal }).then(
    (answer) => answer.text(),
    () => undefined,
  )
}

async function stopPods(world: World) {
  for (const slot of world.slots) slot.close()
  const pods = world.slots.flatMap((slot) => slot.pod ?? [])
  for (const pod of pods) pod.signal('SIGTERM')
  await Promise.all(pods.map((pod) => pod.exited))
}
