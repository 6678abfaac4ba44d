import { z } from 'zod'
import {
  bulk,
  count,
  instant,
  instantSent,
  json,
  jsonObject,
  nextCursor,
  paging,
  queryNumber,
  StepError,
  stepId,
  TEN_YEARS_SECONDS,
  text,
} from '../kernel/contract.ts'

const PRIORITY_WORDS = { low: -10, normal: 0, medium: 0, high: 10, immediate: 100 } as const
const WORDS = ['low', 'normal', 'medium', 'high', 'immediate'] as const

export const StepType = text(200)
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9_.:/-]*$/,
    'must be letters, digits and _ . : / - only, and begin with a letter or digit',
  )
  .describe('which handler runs it')

export const Priority = z
  .union([z.int().min(-1000).max(1000), z.enum(WORDS).transform((word) => PRIORITY_WORDS[word])], {
    error: `must be an integer from -1000 to 1000 or one of ${WORDS.join(', ')}`,
  })
  .describe('higher first; low, normal or medium, high, immediate are -10, 0, 10, 100')

const Key = text(200)

export const RetryPolicy = z
  .strictObject({
    strategy: z.enum(['exponential', 'linear', 'fixed']).exactOptional(),
    base_ms: z.int().min(0).max(86_400_000).exactOptional().describe('wait before the second attempt'),
    max_ms: z.int().min(0).max(604_800_000).exactOptional().describe('no wait is longer'),
    jitter: z.number().min(0).max(1).exactOptional().describe('share of the wait that is drawn at random'),
  })
  .meta({ id: 'RetryPolicy' })

const OnConflict = z.enum(['reject', 'return', 'replace'])

export const Unique = z
  .union([
    Key.transform((key) => ({ key, on_conflict: 'reject' as const })),
    z.strictObject({ key: Key, on_conflict: OnConflict.default('reject') }),
  ])
  .describe('one live step per key; a plain string is a key with on_conflict reject')

const Tag = text(100)
const idempotencyKey = text(255)
  .optional()
  .describe('or the header Idempotency-Key: the same key and body give the first answer again')

export const SubmitStep = z
  .strictObject({
    type: StepType,
    args: jsonObject.describe('what the handler gets'),
    metadata: jsonObject.default({}).describe('what is kept beside it, for people and programs'),
    priority: Priority.default(0),
    max_retries: z.int().min(0).max(1000).default(3).describe('attempts after the first'),
    run_at: instantSent.optional().describe('not before this time'),
    delay_seconds: z
      .number()
      .min(0)
      .max(TEN_YEARS_SECONDS)
      .optional()
      .describe('not before so long from now; instead of run_at'),
    timeout_seconds: z.number().min(0.1).max(604_800).optional().describe('time limit of one attempt'),
    retry: RetryPolicy.optional(),
    key: Key.optional().describe("the lane's key: order, fairness and pausing per key"),
    unique: Unique.optional(),
    expires_at: instantSent.optional().describe('not worth starting after this time'),
    tags: z.array(Tag).max(20).optional(),
    idempotency_key: idempotencyKey,
  })
  .superRefine((step, context) => {
    if (step.run_at !== undefined && step.delay_seconds !== undefined)
      context.addIssue({
        code: 'custom',
        path: ['delay_seconds'],
        message: 'cannot stand beside run_at: give one of the two',
      })
    // Both are in UTC with milliseconds here, so their texts sort as their times do.
    if (step.run_at !== undefined && step.expires_at !== undefined && step.expires_at <= step.run_at)
      context.addIssue({
        code: 'custom',
        path: ['expires_at'],
        message: 'must be after run_at, or the step could never start',
      })
  })
  .meta({
    id: 'SubmitStep',
    examples: [{ type: 'hello_world', args: { message: 'Hello, Fleet-Q!' }, priority: 1 }],
  })

export type SubmitStep = z.output<typeof SubmitStep>

const warnings = z
  .array(z.string())
  .optional()
  .describe('accepted, but worth a look: nobody handles the type, say')

export const SubmitAnswer = z
  .strictObject({ step_id: stepId, status: z.literal('submitted'), message: z.string(), warnings })
  .meta({ id: 'SubmitAnswer' })

export const SubmitBatch = z
  .strictObject({ steps: z.array(SubmitStep).min(1).max(1000), idempotency_key: idempotencyKey })
  .meta({ id: 'SubmitBatch', examples: [{ steps: [{ type: 'hello_world', args: { message: 'one' } }] }] })

export const SubmitBatchAnswer = z
  .strictObject({
    step_ids: z.array(stepId).describe('in the order of the request'),
    count,
    status: z.literal('submitted'),
    message: z.string(),
    warnings,
  })
  .meta({ id: 'SubmitBatchAnswer' })

export const STATUSES = ['pending', 'claimed', 'completed', 'failed', 'cancelled', 'skipped'] as const
export const Status = z.enum(STATUSES).meta({ id: 'Status' })
export const Tray = z.enum(['ready', 'later', 'held', 'claimed', 'settled']).meta({ id: 'Tray' })

export const Attempt = z
  .strictObject({
    attempt: count.describe('1 is the first'),
    pod_id: z.string().nullable(),
    ended: z
      .enum([
        'completed',
        'failed',
        'timeout',
        'pod_died',
        'retried',
        'snoozed',
        'released',
        'suspended',
        'misfit',
        'cancelled',
        'skipped',
      ])
      .nullable()
      .describe('null while it runs'),
    started_at: instant.nullable(),
    ended_at: instant.nullable(),
    error: StepError.nullable(),
  })
  .meta({ id: 'Attempt' })

const Payload = z
  .strictObject({ type: z.string(), args: jsonObject, metadata: jsonObject })
  .meta({ id: 'Payload' })

const Progress = z
  .strictObject({ percent: z.number().min(0).max(100), message: z.string().nullable(), at: instant })
  .meta({ id: 'Progress' })

/** What a list tells of a step, and what its status begins with. */
const summary = {
  step_id: stepId,
  status: Status,
  tray: Tray,
  claimed_by: z.string().nullable().describe('the pod that holds it, or that settled it'),
  priority: z.int(),
  retry_count: count,
  max_retries: count,
  created_ts: instant,
  last_update_ts: instant,
  key: z.string().nullable(),
  tags: z.array(z.string()),
  run_at: instant.nullable(),
  expires_at: instant.nullable(),
}

export const StepStatus = z
  .strictObject({
    ...summary,
    payload: Payload,
    result: json.describe('what the handler returned; null before that'),
    error: StepError.nullable(),
    attempts: z.array(Attempt),
    progress: Progress.nullable(),
    queue_position: count.nullable().describe('1 is next in its lane; null when it does not lie ready'),
  })
  .meta({ id: 'StepStatus' })

export type StepStatus = z.output<typeof StepStatus>

export const StepSummary = z.strictObject({ ...summary, type: z.string() }).meta({ id: 'StepSummary' })

export const IdempotencyAnswer = z
  .strictObject({
    step_id: stepId,
    idempotency_key: z.string().describe('the same for every attempt of the step'),
  })
  .meta({ id: 'IdempotencyAnswer' })

const PARKED = 'only executions that are parked until somebody looks at them'

const age = z.number().min(0).max(TEN_YEARS_SECONDS)

const named = {
  status: Status.optional(),
  type: StepType.optional(),
  tag: Tag.optional(),
  pod: text(200).optional().describe('the pod that holds it, or that settled it'),
  key: Key.optional(),
}

export const StatusQuery = z.strictObject({
  wait_seconds: queryNumber(z.number().min(0).max(30))
    .default(0)
    .describe('answer when the step has its outcome, or when so many seconds are over'),
})

export const ListStepsQuery = z.strictObject({
  ...named,
  attention: z.literal('true').optional().describe(PARKED),
  older_than_seconds: queryNumber(age).optional().describe('created before'),
  newer_than_seconds: queryNumber(age).optional().describe('created since'),
  ...paging,
})

export const StepList = z
  .strictObject({ steps: z.array(StepSummary), next_cursor: nextCursor })
  .meta({ id: 'StepList' })

export const StepFilter = z
  .strictObject({
    ...named,
    attention: z.literal(true).optional().describe(PARKED),
    older_than_seconds: age.optional(),
    newer_than_seconds: age.optional(),
  })
  .refine(
    (filter) => Object.values(filter).some((value) => value !== undefined),
    'must name at least one field',
  )
  .meta({ id: 'StepFilter' })

export const BulkRequest = z.strictObject({ filter: StepFilter, ...bulk }).meta({
  id: 'BulkRequest',
  examples: [{ filter: { type: 'hello_world', status: 'pending' }, dry_run: true }],
})

const reason = text(1000).optional().describe('for people; shown where the step is shown')

export const CancelRequest = z.strictObject({ reason }).meta({ id: 'CancelRequest' })
export const RetryRequest = z.strictObject({ reason }).meta({ id: 'RetryRequest' })

/** The answer to one step being cancelled, retried or redriven. */
export const StepChange = z
  .strictObject({ step_id: stepId, status: Status, message: z.string() })
  .meta({ id: 'StepChange' })

export const LogsQuery = z.strictObject({
  attempt: queryNumber(z.int().min(1).max(32_767)).optional().describe('of this attempt alone'),
  ...paging,
})

export const StepLogs = z
  .strictObject({
    step_id: stepId,
    logs: z.array(
      z.strictObject({
        at: instant,
        attempt: count,
        level: z.enum(['debug', 'info', 'warn', 'error']),
        message: z.string(),
        data: json.optional(),
      }),
    ),
    next_cursor: nextCursor,
  })
  .meta({ id: 'StepLogs' })

export const WHY_REASONS = [
  'running',
  'settled',
  'paused',
  'limit_reached',
  'due_later',
  'retry_backoff',
  'sleeping',
  'waiting',
  'needs_attention',
  'expired',
  'no_live_pod',
  'no_pod_handles_type',
  'no_free_slot',
  'next_in_line',
] as const

export const Why = z
  .strictObject({
    step_id: stepId,
    status: Status,
    running: z.boolean(),
    reason: z.enum(WHY_REASONS),
    sentence: z.string().describe('the answer for a person'),
    facts: jsonObject.describe('what the sentence rests on'),
    position: count.optional(),
    estimated_start_at: instant.optional(),
  })
  .meta({ id: 'Why' })

const what = {
  type: StepType.optional(),
  key: Key.optional(),
  execution: text(200)
    .optional()
    .describe('an execution by its id, or all whose chosen ids fit: order-*. Stands alone'),
}
const namesOne = (pause: {
  type?: string | undefined
  key?: string | undefined
  execution?: string | undefined
}) => (pause.execution === undefined) !== (pause.type === undefined && pause.key === undefined)
const NAMES_ONE = 'must name a type, a key, or both; or executions'

export const PauseRequest = z
  .strictObject({ ...what, until: instantSent.optional().describe('ends by itself'), reason })
  .refine(namesOne, NAMES_ONE)
  .meta({ id: 'PauseRequest', examples: [{ type: 'hello_world', reason: 'the mail server is down' }] })

export const ResumeRequest = z
  .strictObject({ ...what, reason })
  .refine(namesOne, NAMES_ONE)
  .meta({ id: 'ResumeRequest', examples: [{ type: 'hello_world' }] })

const paused = {
  type: z.string().nullable(),
  key: z.string().nullable(),
  execution: z.string().nullable(),
}

export const PauseAnswer = z
  .strictObject({ ...paused, paused: z.boolean(), until: instant.nullable(), message: z.string() })
  .meta({ id: 'PauseAnswer' })

export const PauseList = z
  .strictObject({
    pauses: z.array(
      z.strictObject({
        ...paused,
        paused_at: instant,
        until: instant.nullable(),
        reason: z.string().nullable(),
      }),
    ),
  })
  .meta({ id: 'PauseList' })

const atMost = z.int().min(0).max(1_000_000).nullable().optional()

export const LimitRequest = z
  .strictObject({
    type: StepType,
    max_running: atMost.describe('steps of the type at once in the whole fleet; null: no such limit'),
    max_running_per_key: atMost.describe('the same for each key of the type'),
  })
  .meta({ id: 'LimitRequest', examples: [{ type: 'hello_world', max_running: 5, max_running_per_key: 1 }] })

const Limit = z
  .strictObject({
    type: z.string(),
    max_running: count.nullable(),
    max_running_per_key: count.nullable(),
    running: count,
  })
  .meta({ id: 'Limit' })

export const LimitAnswer = z
  .strictObject({
    type: z.string(),
    max_running: count.nullable(),
    max_running_per_key: count.nullable(),
    message: z.string(),
  })
  .meta({ id: 'LimitAnswer' })

export const LimitList = z.strictObject({ limits: z.array(Limit) }).meta({ id: 'LimitList' })
