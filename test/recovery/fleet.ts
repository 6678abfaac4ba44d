import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type postgres from 'postgres'
import { atEnd } from '../support/cleanup.ts'
import { post } from '../support/http.ts'
import { startPodProcess, type PodChild, type PodProcess } from '../support/processes.ts'
import { until } from '../support/until.ts'

/** What the tests of death have in common: a fleet of processes, what the database says of it, and the audit. */

export const HANDLERS = fileURLToPath(new URL('./handlers', import.meta.url))

/**
 * Half as fast as the fast settings: these tests say exactly what was taken from whom, and on a machine that is busy
 * with other things a heart may be late by a second.
 */
const CALM = { FLEET_Q_HEARTBEAT_SECONDS: '0.5', FLEET_Q_DEAD_AFTER_SECONDS: '3' }

export const startPod = (databaseUrl: string, env: Record<string, string> = {}) =>
  startPodProcess(databaseUrl, { FLEET_Q_HANDLERS: HANDLERS, ...CALM, ...env })

export const startPods = (databaseUrl: string, count: number, env: Record<string, string> = {}) =>
  Promise.all(Array.from({ length: count }, () => startPod(databaseUrl, env)))

/** How a pod ended, if it does. */
export async function endOf(pod: PodChild, limitMs = 60_000) {
  let timer: NodeJS.Timeout | undefined
  const never = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`the pod did not end; it printed:\n${pod.output().slice(-3000)}`)),
      limitMs,
    )
  })
  return Promise.race([pod.exited, never]).finally(() => clearTimeout(timer))
}

/** Ends pods that a test is done with, so that the next one has the processor to itself. */
export async function endPods(...pods: PodProcess[]) {
  for (const pod of pods) {
    pod.signal('SIGCONT')
    pod.signal('SIGKILL')
  }
  await Promise.all(pods.map((pod) => pod.exited))
}

/** A file that handlers write a line into at each start: proof beside the database. */
export function startsFile() {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-q-starts-'))
  atEnd(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'starts')
  const lines = () => {
    try {
      return readFileSync(path, 'utf8').split('\n').filter(Boolean)
    } catch {
      return []
    }
  }
  return {
    path,
    lines,
    /** How many steps have started; one that had to start again counts once. */
    started: () =>
      new Set(
        lines()
          .filter((line) => line.startsWith('start'))
          .map((line) => line.split(' ')[1]),
      ).size,
    /** Of this step, or of all. */
    starts: (stepId?: string) =>
      lines()
        .map((line) => line.split(' '))
        .filter(([word, id]) => word === 'start' && (stepId === undefined || id === stepId))
        .map(([, id, attempt, pid]) => ({ id, attempt: Number(attempt), pid: Number(pid) })),
  }
}

const BATCH_MAX = 1000

export async function submitMany(
  pod: PodProcess,
  count: number,
  wish: (n: number) => { type: string; args: object } & Record<string, unknown>,
): Promise<string[]> {
  const ids: string[] = []
  for (let first = 0; first < count; first += BATCH_MAX) {
    const steps = Array.from({ length: Math.min(BATCH_MAX, count - first) }, (_, i) => wish(first + i))
    const reply = await post(pod.url, '/submit/batch', { steps })
    assert.equal(reply.status, 201, JSON.stringify(reply.body).slice(0, 500))
    ids.push(...(reply.body['step_ids'] as string[]))
  }
  return ids
}

/** Steps that this pod holds now, by its claims; what it gave back of a claim it holds no longer. */
export const heldBy = async (sql: postgres.Sql, pod: { id: string }): Promise<string[]> => {
  const rows = await sql<{ step_id: string }[]>`
    select fleet_q.step_public_id(steps.id, steps.salt, steps.created_at) as step_id
    from fleet_q.claims join fleet_q.pods on pods.id = claims.pod_id
    cross join unnest(claims.step_ids) as held (step_id) join fleet_q.steps on steps.id = held.step_id
    where pods.public_id = ${pod.id}
      and not exists (select from fleet_q.outcomes where outcomes.step_id = steps.id)
      and not exists (
        select from fleet_q.attempts where attempts.step_id = steps.id and attempts.claim_id = claims.id)`
  return rows.map((row) => row.step_id)
}

export const podRow = async (sql: postgres.Sql, pod: { id: string }) => {
  const [row] = await sql<{ id: string; status: string; refused: number; ended_why: string | null }[]>`
    select id, status, refused::int, ended_why from fleet_q.pods where public_id = ${pod.id}`
  assert.ok(row, `${pod.id} has no row`)
  return row
}

export const leaderOf = (sql: postgres.Sql) =>
  until('a leader', async () => {
    const [row] = await sql<{ pod: string; term: string }[]>`
      select pods.public_id as pod, term from fleet_q.leader_terms join fleet_q.pods on pods.id = leader_terms.pod_id
      where leader_terms.ended_at is null`
    return row
  })

export const termsOf = (sql: postgres.Sql, pod: { id: string }) => sql<
  { term: string; ended_why: string | null }[]
>`
  select term, leader_terms.ended_why from fleet_q.leader_terms join fleet_q.pods on pods.id = leader_terms.pod_id
  where pods.public_id = ${pod.id} order by term`

export const outcomesSoFar = async (sql: postgres.Sql): Promise<number> => {
  const [row] = await sql<{ n: number }[]>`select count(*)::int as n from fleet_q.outcomes`
  return row?.n ?? 0
}

/** Everything that was submitted has ended, and no claim is left. */
export const allSettled = (sql: postgres.Sql, limitMs = 60_000) =>
  until(
    'every step to settle',
    async () => {
      const [row] = await sql<{ open: boolean }[]>`
        select exists (select from fleet_q.steps where not exists (
            select from fleet_q.outcomes where outcomes.step_id = steps.id))
          or exists (select from fleet_q.claims) as open`
      return row && !row.open
    },
    limitMs,
  )

export interface Life {
  step_id: string
  status: string | null
  attempt: number | null
  pod: string | null
  result: Record<string, unknown> | null
  reason: string | null
  /** Attempts that were not the last, in their order: 'pod_died by <pod>'. */
  before: { ended: string; attempt: number; pod: string }[]
}

/** The whole life of each step, as the database tells it. */
export async function lives(sql: postgres.Sql, stepIds?: string[]): Promise<Life[]> {
  const rows = await sql<Life[]>`
    select fleet_q.step_public_id(steps.id, steps.salt, steps.created_at) as step_id, outcomes.status,
      outcomes.attempt, pods.public_id as pod, outcomes.result, dead_letters.reason,
      coalesce((
        select jsonb_agg(
          jsonb_build_object('ended', tried.ended, 'attempt', tried.attempt, 'pod', by.public_id) order by tried.claim_id)
        from fleet_q.attempts as tried join fleet_q.pods as by on by.id = tried.pod_id
        where tried.step_id = steps.id), '[]') as before
    from fleet_q.steps
    left join fleet_q.outcomes on outcomes.step_id = steps.id
    left join fleet_q.pods on pods.id = outcomes.pod_id
    left join fleet_q.dead_letters on dead_letters.step_id = steps.id
    order by steps.id`
  return stepIds ? rows.filter((row) => stepIds.includes(row.step_id)) : rows
}

export async function lifeOf(sql: postgres.Sql, stepId: string): Promise<Life> {
  const [life] = await lives(sql, [stepId])
  assert.ok(life, `${stepId} is not there`)
  return life
}

/**
 * What no crash may break, looked up in the tables and not in what pods said: every step lies in exactly one place;
 * attempts are numbered without gaps, count only what burnt one, and stay within max_retries + 1; nobody settled
 * under a claim that was taken from him.
 */
export async function assertSound(sql: postgres.Sql) {
  const wrong = await sql<{ what: string; step_id: string }[]>`
    with place as (
      select step_id, 'outcome' as tray from fleet_q.outcomes
      union all select step_id, 'later' from fleet_q.later
      union all select step_id, 'ready' from fleet_q.ready
        where not exists (select from fleet_q.outcomes where outcomes.step_id = ready.step_id)
      union all select held.step_id, 'claimed' from fleet_q.claims, unnest(claims.step_ids) as held (step_id)
        where not exists (select from fleet_q.outcomes where outcomes.step_id = held.step_id)
          and not exists (
            select from fleet_q.attempts where attempts.step_id = held.step_id and attempts.claim_id = claims.id)
    ),
    burnt as (
      -- A redrive gives all attempts again.
      select step_id, count(*) filter (where ended::text not in ('released', 'snoozed', 'suspended', 'misfit')) as n
      from fleet_q.attempts
      where ended_at > coalesce(
        (select max(at) from fleet_q.redrives where redrives.step_id = attempts.step_id), '-infinity')
      group by step_id
    )
    select 'lies nowhere' as what, id as step_id from fleet_q.steps
      where not exists (select from place where place.step_id = steps.id)
    union all
    select 'lies in ' || string_agg(tray, ' and '), step_id from place group by step_id having count(*) > 1
    union all
    select 'has more attempts than it may', step_id from fleet_q.outcomes join fleet_q.steps on steps.id = step_id
      where attempt > max_retries + 1
    union all
    select format('is settled in attempt %s after %s that counted', outcomes.attempt, coalesce(burnt.n, 0)), step_id
      from fleet_q.outcomes left join burnt using (step_id)
      where outcomes.claim_id is not null and outcomes.attempt <> coalesce(burnt.n, 0) + 1
        -- Those of an execution are counted from its last checkpoint.
        and not exists (select from fleet_q.checkpoints where checkpoints.step_id = outcomes.step_id)
    union all
    select format('waits for attempt %s after %s that counted', tray.attempt, coalesce(burnt.n, 0)), step_id
      from (select step_id, attempt from fleet_q.ready union all select step_id, attempt from fleet_q.later) as tray
      left join burnt using (step_id)
      where tray.attempt <> coalesce(burnt.n, 0) + 1
        and not exists (select from fleet_q.checkpoints where checkpoints.step_id = tray.step_id)
        and not exists (select from fleet_q.outcomes where outcomes.step_id = tray.step_id)
    union all
    select 'is settled under a claim that was taken away', outcomes.step_id
      from fleet_q.outcomes join fleet_q.attempts using (step_id, claim_id)
    union all
    select 'was completed, and is a dead letter', step_id from fleet_q.outcomes join fleet_q.dead_letters using (step_id)
      where status = 'completed'`
  assert.deepEqual([...wrong], [])
}
