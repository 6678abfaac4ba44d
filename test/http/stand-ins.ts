import type { Handlers } from '../../src/http/server.ts'

/** Answers as the seed shows them, for tests of what lies before the handlers. */
const AT = '2024-01-01T12:00:00.000Z'
const STEP = 'step_20240101120000_abc12345'
const change = (message: string) => ({ body: { step_id: STEP, status: 'pending' as const, message } })
const pause = (paused: boolean) => ({
  body: {
    type: 'mail',
    key: null,
    execution: null,
    paused,
    until: null,
    message: paused ? 'paused' : 'resumed',
  },
})
const bulk = { body: { matched: 2, changed: 2, dry_run: false, sample: [STEP], more: false } }

const summary = {
  step_id: STEP,
  status: 'claimed' as const,
  tray: 'claimed' as const,
  claimed_by: 'pod-worker-def456',
  priority: 5,
  retry_count: 0,
  max_retries: 3,
  created_ts: AT,
  last_update_ts: AT,
  key: null,
  tags: ['nightly'],
  run_at: null,
  expires_at: null,
}

const recovery = {
  cycle_id: 'recovery_1704110400',
  dead_pods_found: 2,
  orphaned_steps_found: 12,
  steps_requeued: 10,
  steps_marked_terminal: 2,
  duration_ms: 1500,
  dead_pods: ['pod-dead-1', 'pod-dead-2'],
  requeued_steps: [STEP],
  terminal_steps: [],
}

const tokenRow = {
  token_id: '7',
  name: 'deploy',
  role: 'operator' as const,
  created_at: AT,
  created_by: 'ada, by the command line',
  expires_at: null,
  last_used_at: AT,
  revoked_at: null,
}

const execution = {
  execution_id: 'order-17',
  step_id: STEP,
  task_name: 'order',
  task_id: null,
  status: 'running' as const,
  outcome: 'queued' as const,
  rerun_of: null,
  payload: { amount: 17 },
  result: null,
  error: null,
  attention: null,
  waiting_for: ['approved'],
  worker_id: null,
  retry_number: 0,
  is_retry: false,
  created_at: AT,
  scheduled_at: null,
  started_at: AT,
  completed_at: null,
  duration_ms: null,
  updated_at: AT,
  steps: [
    {
      name: 'charge',
      number: 1,
      kind: 'run' as const,
      status: 'completed' as const,
      failures: 0,
      due_at: null,
      completed_at: AT,
      child_id: null,
      result: { paid: 17 },
      error: null,
    },
  ],
}

export const standIns: Handlers = {
  getHealth: async () => ({
    body: {
      pod_id: 'pod-hostname-abc123',
      status: 'healthy',
      uptime_seconds: 3600.5,
      current_capacity: 3,
      max_capacity: 8,
      is_leader: true,
      version: '1.0.0',
      database: 'ok',
      loops: { claim: { age_seconds: 0.2 }, lead: { age_seconds: null } },
      draining: false,
      stuck_handlers: 0,
    },
  }),
  getReadiness: async () => ({ body: { status: 'ready', pod_id: 'pod-hostname-abc123', message: 'Ready' } }),
  submitStep: async () => ({
    body: { step_id: STEP, status: 'submitted', message: `Step ${STEP} submitted successfully` },
  }),
  submitBatch: async ({ body }) => ({
    body: {
      step_ids: body.steps.map(() => STEP),
      count: body.steps.length,
      status: 'submitted',
      message: `${body.steps.length} steps submitted successfully`,
    },
  }),
  getStatus: async () => ({
    body: {
      ...summary,
      payload: { type: 'data_processing', args: { input_file: 'data.csv' }, metadata: { user: 'alice' } },
      result: null,
      error: null,
      attempts: [
        {
          attempt: 1,
          pod_id: 'pod-1',
          ended: 'pod_died',
          started_at: AT,
          ended_at: AT,
          error: { message: 'gone' },
        },
        { attempt: 2, pod_id: 'pod-2', ended: null, started_at: AT, ended_at: null, error: null },
      ],
      progress: { percent: 40, message: 'half way', at: AT },
      queue_position: null,
    },
  }),
  getIdempotencyKey: async ({ params }) => ({
    body: { step_id: params.step_id, idempotency_key: 'idem_abc12345_def67890' },
  }),
  why: async ({ params }) => ({
    body: {
      step_id: params.step_id,
      status: 'pending',
      running: false,
      reason: 'paused',
      sentence: 'The type mail is paused.',
      facts: { type: 'mail', paused_at: AT },
      position: 3,
      estimated_start_at: AT,
    },
  }),
  listSteps: async ({ query }) => ({
    body: {
      steps: [{ ...summary, type: 'data_processing' }],
      next_cursor: query.cursor === undefined ? 'after 100' : null,
    },
  }),
  listLogs: async ({ params }) => ({
    body: {
      step_id: params.step_id,
      logs: [{ at: AT, attempt: 1, level: 'info', message: 'begun', data: { rows: 3 } }],
      next_cursor: null,
    },
  }),
  cancelStep: async () => change('cancelled'),
  retryStep: async () => change('to be tried again'),
  cancelSteps: async () => bulk,
  retrySteps: async () => bulk,
  getLeader: async () => ({
    body: {
      current_leader: 'pod-leader-abc123',
      leader_birth_ts: AT,
      active_pods: 1,
      last_election_check: AT,
      election_details: {
        eligible_pods: [
          { pod_id: 'pod-leader-abc123', birth_ts: AT, last_heartbeat_ts: AT, is_leader: true },
        ],
        term: '7',
        reason: 'oldest living pod',
      },
    },
  }),
  getQueue: async () => ({
    body: {
      pending_steps: 25,
      claimed_steps: 8,
      completed_steps: 142,
      failed_steps: 3,
      active_pods: 5,
      current_leader: 'pod-leader-abc123',
      queue_depth_by_priority: { '0': 15, '5': 10 },
      steps_by_type: { data_processing: 25 },
      pod_capacity: { 'pod-leader-abc123': { current: 3, max: 8 } },
      estimated: false,
    },
  }),
  runRecovery: async () => ({
    body: {
      status: 'completed',
      message: 'Manual recovery cycle completed successfully',
      recovery_summary: recovery,
    },
  }),
  listRecoveryCycles: async () => ({
    body: {
      cycles: [
        {
          ...recovery,
          pod_id: 'pod-1',
          term: '7',
          forced: false,
          started_at: AT,
          finished_at: AT,
          error: null,
        },
      ],
      next_cursor: null,
    },
  }),
  listDeadLetters: async () => ({
    body: {
      dead_letters: [
        {
          step_id: STEP,
          type: 'mail',
          reason: 'poison',
          at: AT,
          attempts: 3,
          pod_id: 'pod-1',
          error: { message: 'x' },
        },
      ],
      next_cursor: null,
    },
  }),
  redriveDeadLetter: async () => change('to be tried again'),
  redriveDeadLetters: async () => bulk,
  listPods: async () => ({
    body: {
      pods: [
        {
          pod_id: 'pod-1',
          name: 'one',
          status: 'live',
          is_leader: true,
          leader_eligible: true,
          birth_ts: AT,
          last_heartbeat_ts: AT,
          silent_seconds: 1.5,
          dead_after_seconds: 15,
          drain_wanted: false,
          current_capacity: 1,
          max_capacity: 8,
          held_steps: 2,
          stuck_handlers: 0,
          refused_settles: 0,
          types: ['mail'],
          version: '1.0.0',
          ended_at: null,
          ended_why: null,
        },
      ],
    },
  }),
  drainPod: async ({ params, body }) => ({
    body: { pod_id: params.pod_id, draining: body.enabled, message: 'It takes no further steps' },
  }),
  pause: async () => pause(true),
  resume: async () => pause(false),
  listPauses: async () => ({
    body: {
      pauses: [
        {
          type: 'mail',
          key: null,
          execution: null,
          paused_at: AT,
          until: null,
          reason: 'the server is down',
        },
      ],
    },
  }),
  setLimit: async ({ body }) => ({
    body: { type: body.type, max_running: null, max_running_per_key: null, message: 'set' },
  }),
  listLimits: async () => ({ body: { limits: [] } }),
  getScale: async () => ({
    body: { pending: 10, running: 2, capacity: 8, live_pods: 1, wanted_pods: 2, load_percent: 150 },
  }),
  listTokens: async () => ({ body: { tokens: [tokenRow] } }),
  createToken: async () => ({ body: { ...tokenRow, token: 'fq_shown-once' } }),
  revokeToken: async () => ({ body: { ...tokenRow, revoked_at: AT, message: 'It opens nothing any more' } }),
  listAudit: async () => ({
    body: {
      entries: [
        {
          at: AT,
          operation: 'cancelStep',
          target: STEP,
          who: 'token 7 (deploy)',
          role: 'operator',
          ip: '10.0.0.7',
          request_id: 'a',
          details: { reason: 'not wanted' },
        },
      ],
      next_cursor: null,
    },
  }),

  listExecutions: async () => ({ body: [execution] }),
  startExecution: async () => ({ body: execution }),
  getExecution: async () => ({ body: execution }),
  cancelExecution: async () => ({
    body: { execution_id: 'order-17', status: 'cancelled', cancelled_at: AT },
  }),
  waitForExecution: async () => ({ body: execution }),
  getHistory: async () => ({
    body: {
      execution_id: 'order-17',
      step_id: STEP,
      attempts: [],
      steps: [],
      put_aside: [{ at: AT, steps: [] }],
      events: [{ event_name: 'approved', payload: null, sent_at: AT, taken_by: 1 }],
      reruns: ['order-17b'],
    },
  }),
  retryExecution: async () => ({ body: execution }),
  restartExecution: async () => ({ body: execution }),
  rerunExecution: async () => ({ body: { ...execution, rerun_of: 'order-16' } }),
  pauseExecution: async () => pause(true),
  resumeExecution: async () => pause(false),
  getStats: async () => ({
    body: { scheduled: 1, running: 2, completed: 3, failed: 0, cancelled: 0, total: 6, estimated: false },
  }),
  sendEvent: async () => ({
    body: { execution_id: 'order-17', event_name: 'approved', delivered: true },
  }),
}
