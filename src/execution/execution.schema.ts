import { z } from 'zod'
import {
  count,
  instant,
  instantSent,
  json,
  jsonObject,
  nextCursor,
  paging,
  queryNumber,
  StepError,
  text,
} from '../kernel/contract.ts'
import { Attempt, SubmitStep } from '../step/step.schema.ts'

/** The executions door says what a step is in words of its own: an execution, its task and its payload. */

export const EXECUTION_STATUSES = ['scheduled', 'running', 'completed', 'failed', 'cancelled'] as const
export const ExecutionStatus = z.enum(EXECUTION_STATUSES).meta({ id: 'ExecutionStatus' })

export const executionId = text(200).describe('the id that its client chose, or that of its step')
export const executionPath = z.strictObject({ execution_id: executionId })

const chosenId = text(200)
  .regex(/^(?!step_)/, 'may not begin with step_: those ids are given by the fleet')
  .describe('chosen by you: started again with the same id, it is the same execution')

const { priority, max_retries, metadata, key, tags, timeout_seconds, retry, run_at, delay_seconds } =
  SubmitStep.shape

export const StartExecution = z
  .strictObject({
    execution_id: chosenId.optional(),
    executionId: chosenId.optional().describe('the same as execution_id'),
    task_name: SubmitStep.shape.type.optional().describe('which handler runs it'),
    taskName: SubmitStep.shape.type.optional().describe('the same as task_name'),
    payload: jsonObject.default({}).describe('what the handler gets'),
    metadata,
    priority,
    max_retries,
    key,
    tags,
    timeout_seconds,
    retry,
    run_at,
    delay_seconds,
  })
  .superRefine((body, context) => {
    for (const [one, other] of [
      ['execution_id', 'executionId'],
      ['task_name', 'taskName'],
    ] as const)
      if (body[one] !== undefined && body[other] !== undefined)
        context.addIssue({
          code: 'custom',
          path: [other],
          message: `is the same as ${one}: give one of the two`,
        })
    if (body.task_name === undefined && body.taskName === undefined)
      context.addIssue({ code: 'custom', path: ['task_name'], message: 'is missing: it names the handler' })
  })
  .meta({
    id: 'StartExecution',
    examples: [{ execution_id: 'order-17', task_name: 'order', payload: { amount: 17 } }],
  })

export type StartExecution = z.output<typeof StartExecution>

export const Checkpoint = z
  .strictObject({
    name: z.string(),
    number: count.describe('how many times that name was asked for, with this one'),
    kind: z.enum([
      'run',
      'sleep',
      'event',
      'child',
      'result',
      'children',
      'results',
      'now',
      'random',
      'version',
      'undo',
      'failure',
    ]),
    status: z.enum(['open', 'completed', 'failed']),
    failures: count.describe('tries of a run that failed'),
    due_at: instant.nullable(),
    completed_at: instant.nullable(),
    child_id: z.string().nullable().describe('the step that was submitted here, or is waited for'),
    result: json,
    error: StepError.nullable(),
  })
  .meta({ id: 'Checkpoint' })

export const Execution = z
  .strictObject({
    execution_id: z.string(),
    step_id: z.string(),
    task_name: z.string(),
    task_id: z.string().nullable(),
    status: ExecutionStatus,
    outcome: z.enum(['queued', 'running', 'success', 'failed', 'cancelled', 'skipped']),
    rerun_of: z.string().nullable().describe('the execution whose input it was started with'),
    payload: jsonObject,
    result: json.describe('what the handler returned; null before that'),
    error: StepError.nullable(),
    attention: z.string().nullable().describe('why it is parked until somebody looks at it'),
    waiting_for: z.array(z.string()).describe('names of what it sleeps over or waits for'),
    worker_id: z.string().nullable().describe('the pod that holds it, or that settled it'),
    retry_number: count,
    is_retry: z.boolean(),
    created_at: instant,
    scheduled_at: instant.nullable().describe('when it goes on by itself'),
    started_at: instant.nullable(),
    completed_at: instant.nullable(),
    duration_ms: z.number().nullable().describe('from its start to its end'),
    updated_at: instant,
    steps: z.array(Checkpoint).describe('its checkpoints, the latest 1000; a list leaves them out'),
  })
  .meta({ id: 'Execution' })

export type Execution = z.output<typeof Execution>

export const ListExecutionsQuery = z.strictObject({
  status: ExecutionStatus.optional(),
  task_name: SubmitStep.shape.type.optional(),
  taskName: SubmitStep.shape.type.optional().describe('the same as task_name'),
  tag: text(100).optional(),
  key: text(200).optional(),
  attention: z.literal('true').optional().describe('only those that are parked until somebody looks at them'),
  offset: queryNumber(z.int().min(0).max(10_000))
    .default(0)
    .describe('past so many; cursor is faster, at any depth'),
  ...paging,
})

export const ExecutionList = z.array(Execution)

export const WaitQuery = z.strictObject({
  timeout_secs: queryNumber(z.number().min(0)).optional().describe('at most 30, which is what nothing means'),
  timeoutSecs: queryNumber(z.number().min(0)).optional().describe('the same as timeout_secs'),
})

export const ExecutionCancelled = z
  .strictObject({ execution_id: z.string(), status: z.literal('cancelled'), cancelled_at: instant })
  .meta({ id: 'ExecutionCancelled' })

export const eventPath = z.strictObject({
  execution_id: executionId,
  event_name: text(180).describe('as the handler waits for it'),
})

export const EventAccepted = z
  .strictObject({
    execution_id: z.string(),
    event_name: z.string(),
    delivered: z
      .boolean()
      .describe('the execution was asleep over it, and goes on; else it is kept until it is asked for'),
  })
  .meta({ id: 'EventAccepted' })

const because = text(1000).optional().describe('for people; stands in the audit')

export const PauseExecution = z
  .strictObject({ until: instantSent.optional().describe('ends by itself'), reason: because })
  .meta({ id: 'PauseExecution' })

export const ResumeExecution = z.strictObject({ reason: because }).meta({ id: 'ResumeExecution' })

const dropEvents = z
  .array(text(180))
  .max(100)
  .optional()
  .describe('events of these names that lie unread then are dropped: they were not what its waits can use')

export const RetryExecution = z
  .strictObject({
    from: text(200)
      .optional()
      .describe(
        'the checkpoint that it forgets, with all that came after it; else it goes on at what failed',
      ),
    number: z
      .int()
      .min(1)
      .max(10_000)
      .optional()
      .describe('which time, where it came by that name more than once'),
    drop_events: dropEvents,
    reason: because,
  })
  .refine(({ from, number }) => number === undefined || from !== undefined, 'number goes with from')
  .meta({ id: 'RetryExecution', examples: [{ from: 'charge' }] })

export const RestartExecution = z
  .strictObject({ drop_events: dropEvents, reason: because })
  .meta({ id: 'RestartExecution' })

export const RerunExecution = z
  .strictObject({
    new_execution_id: chosenId.optional(),
    payload: jsonObject.optional().describe('instead of the input that it had'),
  })
  .meta({ id: 'RerunExecution', examples: [{ new_execution_id: 'order-17b', payload: { amount: 18 } }] })

export const ExecutionHistory = z
  .strictObject({
    execution_id: z.string(),
    step_id: z.string(),
    attempts: z.array(Attempt).describe('the latest 100'),
    steps: z.array(Checkpoint).describe('what it remembers, the latest 1000'),
    put_aside: z
      .array(z.strictObject({ at: instant, steps: z.array(Checkpoint) }))
      .describe('what it remembered before it was sent back, the latest first'),
    events: z
      .array(
        z.strictObject({
          event_name: z.string(),
          payload: json,
          sent_at: instant,
          taken_by: count.nullable().describe('which wait of that name got it; null while it lies there'),
        }),
      )
      .describe('the latest 1000'),
    reruns: z.array(z.string()).describe('executions that were started with its input'),
  })
  .meta({ id: 'ExecutionHistory' })

export type ExecutionHistory = z.output<typeof ExecutionHistory>

export const ExecutionStats = z
  .strictObject({
    scheduled: count,
    running: count,
    completed: count,
    failed: count,
    cancelled: count,
    total: count,
    estimated: z
      .boolean()
      .describe('the numbers of those that ended are estimates: there are more than 10,000'),
  })
  .meta({ id: 'ExecutionStats' })

export const nextPage = nextCursor
