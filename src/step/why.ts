import type { Database, Sql } from '../db/connect.ts'
import { didYouMean } from '../kernel/words.ts'
import { durationText } from '../kernel/duration.ts'
import { findHolders } from './limit.sql.ts'
import { countSettledLately, findPauses } from './queue.sql.ts'
import { findAttempts, findPosition, type StepRow } from './read.sql.ts'
import { getStep, POSITION_MAX, statusOf } from './read.ts'
import { findFleetSlots, findNow } from './why.sql.ts'
import { asleep, endOf, heldBack } from './why-asleep.ts'
import type { WHY_REASONS } from './step.schema.ts'

export interface WhyAnswer {
  step_id: string
  status: ReturnType<typeof statusOf>
  running: boolean
  reason: (typeof WHY_REASONS)[number]
  sentence: string
  facts: Record<string, unknown>
  position?: number
  estimated_start_at?: string
}

export type Finding = Omit<WhyAnswer, 'step_id' | 'status' | 'running'>

const RATE_MINUTES = 5

/** Why a step is not running: the conditions of a claim, asked one after another, in the order in which they bind. */
export const why = (database: Database, stepId: string): Promise<WhyAnswer> =>
  database.run(async (sql) => {
    const step = await getStep(sql, stepId)
    const [now] = await findNow(sql)
    const at = now?.now ?? new Date(0)
    const finding =
      settled(step) ??
      running(step, at) ??
      (await asleep(sql, step, at)) ??
      (await delayed(sql, step, at)) ??
      (await queued(sql, step, at))
    return { step_id: stepId, status: statusOf(step), running: finding.reason === 'running', ...finding }
  })

function settled(step: StepRow): Finding | undefined {
  if (step.outcome === null) return undefined
  const message = step.error?.['message']
  return {
    reason: 'settled',
    sentence: `It is over: ${step.outcome} on attempt ${step.outcome_attempt ?? 0} at ${iso(step.settled_at)}${typeof message === 'string' ? ` (${message})` : ''}.`,
    facts: { outcome: step.outcome, settled_at: iso(step.settled_at), pod_id: step.pod, error: step.error },
  }
}

function running(step: StepRow, now: Date): Finding | undefined {
  if (step.claim_id === null) return undefined
  const sinceMs = now.getTime() - (step.taken_at?.getTime() ?? now.getTime())
  const attempt = step.claim_attempt ?? 1
  // An execution whose tries are used up undoes what it did, also after the pod that was at it has died.
  const tries = attempt > step.max_retries + 1 ? ', to undo what it did,' : ` of ${step.max_retries + 1}`
  return {
    reason: 'running',
    sentence: `It is running: attempt ${attempt}${tries} on ${step.pod ?? 'a pod'}, claimed ${durationText(sinceMs)} ago.`,
    facts: { pod_id: step.pod, attempt: step.claim_attempt, claimed_at: iso(step.taken_at) },
  }
}

async function delayed(sql: Sql, step: StepRow, now: Date): Promise<Finding | undefined> {
  if (step.due_at === null) return undefined
  const inMs = step.due_at.getTime() - now.getTime()
  const when = inMs > 0 ? `in ${durationText(inMs)}, at ${iso(step.due_at)}` : `now (${iso(step.due_at)})`
  const estimate = { estimated_start_at: iso(step.due_at) ?? '' }
  const facts = { due_at: iso(step.due_at), waits_for: step.later_why, next_attempt: step.later_attempt }
  if (step.later_why === 'delay')
    return {
      reason: 'due_later',
      sentence: `It is due ${when}: that is when its submitter wants it.`,
      facts,
      ...estimate,
    }
  const [last] = await findAttempts(sql, step.id, 1)
  const message = last?.error?.['message']
  const because = last
    ? ` after its last attempt ended as ${last.ended}${typeof message === 'string' ? ` (${message})` : ''}`
    : ''
  return {
    reason: 'retry_backoff',
    sentence: `It is waiting${because}; attempt ${step.later_attempt ?? 1} is due ${when}.`,
    facts: {
      ...facts,
      last_attempt: last ? { ended: last.ended, pod_id: last.pod, error: last.error } : null,
    },
    ...estimate,
  }
}

async function queued(sql: Sql, step: StepRow, now: Date): Promise<Finding> {
  if (step.expires_at !== null && step.expires_at <= now)
    return {
      reason: 'expired',
      sentence: `It expired at ${iso(step.expires_at)}; the pod that meets it will skip it.`,
      facts: { expires_at: iso(step.expires_at) },
    }
  const held = await heldBack(sql, step)
  if (held) return held
  const [pause] = await findPauses(sql, step.type, step.lane_key)
  if (pause) {
    const what = [pause.type && `type ${pause.type}`, pause.key && `key ${pause.key}`]
      .filter(Boolean)
      .join(', ')
    return {
      reason: 'paused',
      sentence: `It is paused (${what}) since ${iso(pause.paused_at)}${endOf(pause)}.`,
      facts: {
        type: pause.type,
        key: pause.key,
        paused_at: iso(pause.paused_at),
        until: iso(pause.until),
        reason: pause.reason,
      },
    }
  }
  const fleet = await findFleetSlots(sql, step.type)
  if (fleet.length === 0)
    return {
      reason: 'no_live_pod',
      sentence: 'No pod is alive to run it. It starts as soon as one that handles its type does.',
      facts: { live_pods: 0 },
    }
  const able = fleet.filter((pod) => pod.handles)
  if (able.length === 0) {
    const types = [...new Set(fleet.flatMap((pod) => pod.types))].toSorted()
    return {
      reason: 'no_pod_handles_type',
      sentence: `No live pod handles the type "${step.type}".${didYouMean(step.type, types)} It stays ready until one does.`,
      facts: { type: step.type, live_pods: fleet.length, types_handled: types },
    }
  }
  return (await limited(sql, step)) ?? inLine(sql, step, now, able)
}

async function limited(sql: Sql, step: StepRow): Promise<Finding | undefined> {
  const [limit] = await findHolders(sql, step.type, step.lane_key)
  if (!limit) return undefined
  const full = limit.max_running !== null && limit.running >= limit.max_running
  const fullKey = limit.max_running_per_key !== null && limit.running_of_key >= limit.max_running_per_key
  if (!full && !fullKey) return undefined
  const holders = limit.holders ?? []
  const what = full
    ? `${limit.running} of ${limit.max_running ?? 0} steps of type "${step.type}"`
    : `${limit.running_of_key} of ${limit.max_running_per_key ?? 0} steps of type "${step.type}" with key "${step.lane_key}"`
  return {
    reason: 'limit_reached',
    sentence: `Its limit is reached: ${what} run at once${holders[0] ? `, the oldest is ${holders[0].step_id} on ${holders[0].pod_id}` : ''}. It starts when one of them ends.`,
    facts: {
      max_running: limit.max_running,
      running: limit.running,
      max_running_per_key: limit.max_running_per_key,
      running_of_key: limit.running_of_key,
      holders,
    },
  }
}

async function inLine(
  sql: Sql,
  step: StepRow,
  now: Date,
  able: { public_id: string; capacity: number; running: number }[],
): Promise<Finding> {
  const [place] = await findPosition(
    sql,
    { id: step.id, laneId: step.lane_id, priority: step.priority },
    POSITION_MAX,
  )
  const ahead = place?.ahead ?? undefined
  const position = ahead === undefined ? undefined : ahead + 1
  const capacity = able.reduce((total, pod) => total + pod.capacity, 0)
  const busy = able.reduce((total, pod) => total + Math.min(pod.running, pod.capacity), 0)
  const [lately] = await countSettledLately(sql, RATE_MINUTES)
  const perSecond = (lately?.steps ?? 0) / (RATE_MINUTES * 60)
  const before = (ahead ?? POSITION_MAX) + (place?.higher ?? 0)
  const estimate =
    perSecond > 0
      ? { estimated_start_at: new Date(now.getTime() + (before / perSecond) * 1000).toISOString() }
      : {}
  const facts = {
    ahead_in_its_lane: ahead ?? `more than ${POSITION_MAX}`,
    ahead_in_higher_priorities: place?.higher ?? 0,
    slots: capacity,
    slots_busy: busy,
    pods: able.map((pod) => pod.public_id),
    settled_in_the_last_minutes: lately?.steps ?? 0,
  }
  const where =
    position === undefined
      ? `has more than ${POSITION_MAX} steps before it`
      : position === 1 && before === 0
        ? 'is next in its lane'
        : `has ${before} ${before === 1 ? 'step' : 'steps'} before it`
  const rest = { facts, ...(position === undefined ? {} : { position }), ...estimate }
  return busy >= capacity
    ? {
        reason: 'no_free_slot',
        sentence: `It ${where}; all ${capacity} slots of the ${able.length} ${able.length === 1 ? 'pod' : 'pods'} that handle its type are busy.`,
        ...rest,
      }
    : {
        reason: 'next_in_line',
        sentence: `It ${where}; ${capacity - busy} of ${capacity} slots are free, so a pod takes it in a moment.`,
        ...rest,
      }
}

const iso = (date: Date | null) => date?.toISOString() ?? null
