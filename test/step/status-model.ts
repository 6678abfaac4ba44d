import type postgres from 'postgres'
import type { Report } from '../../src/step/settle.sql.ts'
import { POISON_AFTER } from '../../src/step/step.ts'

/** What becomes of steps, told in words of its own: no tray, no SQL, one object for each step. */

export interface Step {
  id: string
  key: string
  maxRetries: number
  status: 'pending' | 'claimed' | 'completed' | 'failed' | 'cancelled' | 'skipped'
  /** The attempt that runs or comes next; of a step that has ended the last one. */
  attempt: number
  isLater: boolean
  crashes: number
  /** Whoever runs it, or believes to. */
  claim: Claim | undefined
  /** The claim under which it ended. */
  endedUnder: Claim | undefined
}

export interface Claim {
  id: string
  pod: Pod
  stands: boolean
  /** Not handed in yet. */
  open: Map<Step, number>
}

export interface Pod {
  id: string
  publicId: string
  end: 'died' | 'left' | undefined
  claims: Claim[]
}

export const ENDS = ['completed', 'failed', 'skipped', 'again', 'again later', 'released', 'snoozed'] as const
export type End = (typeof ENDS)[number]

/** What a pod says of an attempt. */
export function reportFor(claim: Claim, step: Step, attempt: number, end: End): Report {
  const plain = {
    claimId: claim.id,
    stepId: step.key,
    attempt,
    result: null,
    error: null,
    startedMs: performance.now(),
  }
  if (end === 'completed' || end === 'skipped')
    return { ...plain, outcome: end, ended: null, delayMs: null, nextAttempt: null, mayStand: true }
  const isLast = attempt > step.maxRetries
  if (end === 'failed' || (isLast && end.startsWith('again')))
    return { ...plain, outcome: 'failed', ended: 'failed', delayMs: null, nextAttempt: null }
  const isFree = end === 'released' || end === 'snoozed'
  return {
    ...plain,
    outcome: null,
    ended: isFree ? end : 'failed',
    delayMs: end === 'again later' || end === 'snoozed' ? 3_600_000 : 0,
    nextAttempt: isFree ? attempt : attempt + 1,
  }
}

export const isEnded = ({ status }: Step) => status !== 'pending' && status !== 'claimed'

export function handIn(claim: Claim, step: Step, report: Report) {
  claim.open.delete(step)
  // Taken away, or ended by somebody else meanwhile: a late answer changes nothing.
  if (!claim.stands || step.claim !== claim || isEnded(step)) return
  step.claim = undefined
  if (report.outcome !== null) {
    step.status = report.outcome
    step.endedUnder = claim
  } else {
    step.status = 'pending'
    step.attempt = report.nextAttempt ?? 0
    step.isLater = (report.delayMs ?? 0) > 0
  }
}

/** False: it has ended already. */
export function cancel(step: Step): boolean {
  if (isEnded(step)) return false
  // One that lies in its lane is not looked for there: it was cancelled before any attempt that is known.
  if (step.status === 'pending' && !step.isLater) step.attempt = 0
  step.status = 'cancelled'
  step.endedUnder = undefined
  return true
}

/** False: it has not ended, it completed, or somebody may still hand something in for it. */
export function redrive(step: Step, claims: Claim[]): boolean {
  if (!isEnded(step) || step.status === 'completed') return false
  if (claims.some((claim) => claim.stands && claim !== step.endedUnder && claim.open.has(step))) return false
  Object.assign(step, { status: 'pending', attempt: 1, isLater: false, crashes: 0, claim: undefined })
  return true
}

export function recover(claim: Claim) {
  claim.stands = false
  for (const [step] of claim.open) {
    if (step.claim !== claim || isEnded(step)) continue
    step.claim = undefined
    const died = claim.pod.end === 'died'
    if (died) step.crashes++
    if (died && (step.crashes >= POISON_AFTER || step.attempt > step.maxRetries)) {
      step.status = 'failed'
      step.endedUnder = claim
    } else {
      step.status = 'pending'
      if (died) step.attempt++
      step.isLater = died && step.crashes === POISON_AFTER - 1
    }
  }
}

/** As the view fleet_q.step_status shows it. */
export const shown = (step: Step) => ({
  key: step.key,
  status: step.status,
  tray: isEnded(step) ? 'settled' : step.status === 'claimed' ? 'claimed' : step.isLater ? 'later' : 'ready',
  // The attempt of a step in its lane is not looked for.
  attempt: step.status === 'pending' && !step.isLater ? null : step.attempt,
  holder: step.status === 'claimed' ? (step.claim?.pod.publicId ?? null) : null,
})

export const viewOf = (sql: postgres.Sql, keys: string[]) => sql<ReturnType<typeof shown>[]>`
  select key, status, tray, attempt, case when status = 'claimed' then pod_id end as holder
  from fleet_q.step_status where key = any (${keys}::bigint[]) order by key`
