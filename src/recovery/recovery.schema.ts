import { z } from 'zod'
import { bulk, count, instant, nextCursor, paging, StepError, stepId, text } from '../kernel/contract.ts'

export const RecoveryRequest = z
  .strictObject({
    force: z.boolean().default(false).describe('even if a cycle has just ended'),
    dry_run: z.boolean().default(false).describe('look, change nothing'),
    relay: z.boolean().default(false).describe('a pod that does not lead passes the wish to the leader'),
  })
  .meta({ id: 'RecoveryRequest', examples: [{ dry_run: true }] })

const summary = {
  cycle_id: z.string(),
  dead_pods_found: count,
  orphaned_steps_found: count,
  steps_requeued: count,
  steps_marked_terminal: count,
  duration_ms: count,
  dead_pods: z.array(z.string()),
  requeued_steps: z.array(stepId).describe('a sample; the counts are complete'),
  terminal_steps: z.array(stepId).describe('a sample; the counts are complete'),
}

export const RecoveryAnswer = z
  .strictObject({
    status: z.enum(['completed', 'skipped']),
    message: z.string(),
    recovery_summary: z.strictObject(summary).meta({ id: 'RecoverySummary' }),
  })
  .meta({ id: 'RecoveryAnswer' })

export const RecoveryCyclesQuery = z.strictObject(paging)

export const RecoveryCycles = z
  .strictObject({
    cycles: z.array(
      z
        .strictObject({
          ...summary,
          duration_ms: count.nullable(),
          pod_id: z.string().describe('who ran it'),
          term: z.string().nullable(),
          forced: z.boolean(),
          started_at: instant,
          finished_at: instant.nullable().describe('null while it runs'),
          error: z.string().nullable(),
        })
        .meta({ id: 'RecoveryCycle' }),
    ),
    next_cursor: nextCursor,
  })
  .meta({ id: 'RecoveryCycles' })

export const DeadLetterReason = z
  .enum(['dead_pod', 'timeout', 'poison', 'exhausted'])
  .meta({ id: 'DeadLetterReason' })

const which = { reason: DeadLetterReason.optional(), type: text(200).optional() }

export const DeadLettersQuery = z.strictObject({ ...which, ...paging })

export const DeadLetters = z
  .strictObject({
    dead_letters: z.array(
      z
        .strictObject({
          step_id: stepId,
          type: z.string(),
          reason: DeadLetterReason,
          at: instant,
          attempts: count,
          pod_id: z.string().nullable().describe('where the last attempt ran'),
          error: StepError.nullable(),
        })
        .meta({ id: 'DeadLetter' }),
    ),
    next_cursor: nextCursor,
  })
  .meta({ id: 'DeadLetters' })

/** Unlike a bulk cancel it may be without a filter: everything in there has already failed. */
export const RedriveRequest = z
  .strictObject({
    filter: z.strictObject(which).default({}),
    ...bulk,
  })
  .meta({ id: 'RedriveRequest', examples: [{ filter: { reason: 'dead_pod' }, dry_run: true }] })
