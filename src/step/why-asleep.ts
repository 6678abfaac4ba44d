import type { Sql } from '../db/connect.ts'
import { durationText } from '../kernel/duration.ts'
import { findAttempts, type StepRow } from './read.sql.ts'
import type { Finding } from './why.ts'
import { findExecutionPause, findOpenCheckpoints } from './why.sql.ts'

/** An execution that went away by itself. */
export async function asleep(sql: Sql, step: StepRow, now: Date): Promise<Finding | undefined> {
  if (step.later_why === 'attention') {
    const [last] = await findAttempts(sql, step.id, 1)
    const message = last?.error?.['message']
    return {
      reason: 'needs_attention',
      sentence: `It needs somebody: ${typeof message === 'string' ? message : 'its code does not fit what it remembers'}. Bring back code that fits (ctx.version lets both live), and then retry it: POST .../executions/${step.step_id}/retry.`,
      facts: { error: last?.error ?? null },
    }
  }
  if (step.later_why === 'pause') return heldBack(sql, step)
  if (step.later_why !== 'sleep' && step.later_why !== 'wait') return undefined
  const open = await findOpenCheckpoints(sql, step.id)
  const due = step.due_at === null ? undefined : step.due_at
  const until = due
    ? `${durationText(Math.max(0, due.getTime() - now.getTime()))} more, until ${iso(due)}`
    : ''
  const names = open.map(({ kind, name, child }) =>
    kind === 'event' ? `event "${name}"` : kind.startsWith('result') ? (child ?? 'a step') : `"${name}"`,
  )
  const facts = {
    due_at: iso(due ?? null),
    waits_for: open.map(({ kind, name, due_at, child }) => ({
      kind,
      name,
      ...(child === null ? {} : { step_id: child }),
      ...(due_at === null ? {} : { until: iso(due_at) }),
    })),
  }
  const estimate = due ? { estimated_start_at: iso(due) ?? '' } : {}
  return step.later_why === 'sleep'
    ? { reason: 'sleeping', sentence: `It sleeps (${names.join(', ')}): ${until}.`, facts, ...estimate }
    : {
        reason: 'waiting',
        sentence: `It waits for ${names.join(', ')}${due ? `: ${until}` : ''}. It holds no slot meanwhile.`,
        facts,
        ...estimate,
      }
}

/** By a pause of this one execution, or of all whose ids fit. */
export async function heldBack(sql: Sql, step: StepRow): Promise<Finding | undefined> {
  const [pause] = await findExecutionPause(sql, step.id)
  if (!pause) return undefined
  const { execution, paused_at, until, reason } = pause
  const what = execution.includes('*') ? `as all executions ${execution}` : execution
  return {
    reason: 'paused',
    sentence: `It is paused (${what}) since ${iso(paused_at)}${endOf({ until, reason })}.`,
    facts: { execution, paused_at: iso(paused_at), until: iso(until), reason },
  }
}

export const endOf = ({ until, reason }: { until: Date | null; reason: string | null }) =>
  `${until ? `, until ${iso(until)}` : ', until somebody resumes it'}${reason ? `: ${reason}` : ''}`

const iso = (date: Date | null) => date?.toISOString() ?? null
