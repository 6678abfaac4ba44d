import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { z } from 'zod'
import { createClient, FleetQError } from '../../src/client.ts'
import { encodeCursor } from '../../src/kernel/cursor.ts'
import type { Spec } from '../../src/http/endpoint.ts'
import { specs } from '../../src/http/specs.ts'
import { defineStep, NonRetryableError } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { call, get, post } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

/** Every operation of the fleet door on a real pod, through the typed client; answers are held against their schemas. */

const gate = { open: () => {}, opened: Promise.resolve() }
gate.opened = new Promise<void>((resolve) => (gate.open = resolve))

const steps = [
  defineStep('greet', { input: z.object({ name: z.string() }) }, ({ name }, ctx) => {
    ctx.log.info('greeting', { name })
    ctx.progress(100, 'done')
    return { greeting: `Hello, ${name}` }
  }),
  defineStep('fatal', {}, () => {
    throw new NonRetryableError('no use')
  }),
  defineStep('gated', {}, async (_, ctx) => {
    await Promise.race([
      gate.opened,
      new Promise((_resolve, reject) =>
        ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)),
      ),
    ])
    return 'through'
  }),
]

const db = await testDatabase()
const pod = await startTestPod(db.url, steps)
const second = await startTestPod(db.url, steps, { FLEET_Q_LEADER_ELIGIBLE: '0' })
const called = new Set<string>()
const counting: typeof fetch = async (input, init) => {
  const { pathname } = new URL(input instanceof Request ? input.url : input)
  const method = init?.method ?? 'GET'
  for (const spec of Object.values(specs))
    if (spec.method === method && new RegExp(`^${spec.path.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(pathname))
      called.add(spec.name)
  return fetch(input, init)
}
const client = createClient({ baseUrl: pod.url, fetch: counting })
const other = createClient({ baseUrl: second.url, fetch: counting })
await until('the first pod to lead', async () => (await client.getLeader()).current_leader === pod.id)

const refused = (error: unknown, status: number, type: string) =>
  error instanceof FleetQError && error.status === status && error.error_type === type

test('health tells the pod, its slots, its loops and the database; readiness says ready', async () => {
  const health = await client.getHealth()
  assert.equal(health.pod_id, pod.id)
  assert.equal(health.status, 'healthy')
  assert.equal(health.max_capacity, 8)
  assert.equal(health.is_leader, true)
  assert.equal(health.database, 'ok')
  assert.deepEqual(Object.keys(health.loops).toSorted(), ['exchange', 'heartbeat', 'leader', 'promote'])
  assert.equal((await other.getHealth()).is_leader, false)
  assert.equal((await client.getReadiness()).status, 'ready')
})

test('submit answers 201 in the words of the seed, and the step runs', async () => {
  const reply = await post(pod.url, '/submit', {
    type: 'greet',
    args: { name: 'Ada' },
    metadata: { user: 'alice' },
    priority: 5,
    max_retries: 3,
  })
  assert.equal(reply.status, 201)
  const id = String(reply.body['step_id'])
  assert.match(id, /^step_\d{14}_[0-9a-z]+$/)
  assert.deepEqual(reply.body, {
    step_id: id,
    status: 'submitted',
    message: `Step ${id} submitted successfully`,
  })
  const status = await client.waitFor(id)
  assert.equal(status.status, 'completed')
  assert.deepEqual(status.payload, { type: 'greet', args: { name: 'Ada' }, metadata: { user: 'alice' } })
  assert.deepEqual(status.result, { greeting: 'Hello, Ada' })
  assert.equal(status.priority, 5)
  assert.equal(status.max_retries, 3)
  called.add('submitStep')
})

test('arguments that do not fit a type that the pod knows are refused, and nothing is stored', async () => {
  const before = await db.sql`select count(*)::int as n from fleet_q.steps`
  const reply = await post(pod.url, '/submit', { type: 'greet', args: { name: 7 } })
  assert.equal(reply.status, 400)
  assert.deepEqual(
    (reply.body['issues'] as { at: string }[]).map((issue) => issue.at),
    ['args.name'],
  )
  assert.deepEqual(await db.sql`select count(*)::int as n from fleet_q.steps`, before)
})

test('a type that nobody handles is accepted with a warning, stays ready, and why says so', async () => {
  const answer = await client.submitStep({ type: 'greeet', args: {} })
  assert.match(answer.warnings?.[0] ?? '', /No live pod handles "greeet"\. Did you mean greet\?/)
  const why = await client.why({ step_id: answer.step_id })
  assert.equal(why.reason, 'no_pod_handles_type')
  assert.match(why.sentence, /No live pod handles the type "greeet"\. Did you mean greet\?/)
  await client.cancelStep({ step_id: answer.step_id })
})

test('a batch is stored whole or not at all, in the order of the request', async () => {
  const good = { type: 'greet', args: { name: 'x' } }
  const { step_ids, count } = await client.submitBatch({ steps: [good, good, good] })
  assert.equal(count, 3)
  assert.equal(new Set(step_ids).size, 3)
  await assert.rejects(client.submitBatch({ steps: [good, { type: 'greet', args: {} }] }), (error) =>
    refused(error, 400, 'validation_error'),
  )
  for (const id of step_ids) assert.equal((await client.waitFor(id)).status, 'completed')
})

test('the same idempotency key and body give the first answer again; another body is a conflict', async () => {
  const body = { type: 'greet', args: { name: 'once' } }
  const first = await post(pod.url, '/submit', body, { 'idempotency-key': 'order-7' })
  const again = await post(second.url, '/submit', body, { 'idempotency-key': 'order-7' })
  assert.equal(first.status, 201)
  assert.equal(again.status, 200)
  assert.equal(again.headers.get('idempotency-replayed'), 'true')
  assert.equal(again.body['step_id'], first.body['step_id'])
  const clash = await post(
    pod.url,
    '/submit',
    { type: 'greet', args: { name: 'other' } },
    { 'idempotency-key': 'order-7' },
  )
  assert.equal(clash.status, 409)
  assert.equal(clash.body['error_type'], 'conflict')
})

test('the idempotency key of a step is the same each time it is asked for', async () => {
  const { step_id } = await client.submitStep({ type: 'greet', args: { name: 'key' } })
  const first = await client.getIdempotencyKey({ step_id })
  assert.match(first.idempotency_key, /^idem_[0-9a-z]+_[0-9a-f]{8}$/)
  assert.deepEqual(await client.getIdempotencyKey({ step_id }), first)
  await assert.rejects(client.getIdempotencyKey({ step_id: 'step_20240101120000_abc12345' }), (error) =>
    refused(error, 404, 'not_found'),
  )
})

test('an unknown step is 404 in the shape of the seed', async () => {
  const reply = await get(pod.url, '/status/invalid_step_id')
  assert.equal(reply.status, 404)
  assert.equal(reply.body['error_type'], 'not_found')
  assert.equal(reply.body['path'], '/status/invalid_step_id')
  assert.equal(reply.body['error'], reply.body['detail'])
})

test('a delayed step lies in later, why tells when, and it runs when it is due', async () => {
  const { step_id } = await client.submitStep({ type: 'greet', args: { name: 'later' }, delay_seconds: 0.6 })
  const status = await client.getStatus({ step_id })
  assert.equal(status.tray, 'later')
  assert.equal(status.status, 'pending')
  const why = await client.why({ step_id })
  assert.equal(why.reason, 'due_later')
  assert.ok(why.estimated_start_at)
  assert.equal((await client.waitFor(step_id)).status, 'completed')
})

test('logs of a handler are kept per attempt and read back', async () => {
  const { step_id } = await client.submitStep({ type: 'greet', args: { name: 'log' } })
  await client.waitFor(step_id)
  const logs = await until('the lines to be written', async () => {
    const page = await client.listLogs({ step_id })
    return page.logs.length > 0 && page.logs
  })
  assert.deepEqual(
    logs.map(({ attempt, level, message, data }) => ({ attempt, level, message, data })),
    [{ attempt: 1, level: 'info', message: 'greeting', data: { name: 'log' } }],
  )
  assert.equal((await client.listLogs({ step_id, attempt: 1 })).logs.length, 1)
  assert.deepEqual((await client.listLogs({ step_id, attempt: 2 })).logs, [], 'of this attempt alone')
  const { next_cursor } = await client.listLogs({ step_id, limit: 1 })
  assert.deepEqual((await client.listLogs({ step_id, cursor: next_cursor ?? '' })).logs, [])
  const far = encodeCursor('999999999999999999')
  assert.deepEqual(
    (await client.listLogs({ step_id, cursor: far })).logs,
    [],
    'a cursor that somebody made up',
  )
  const progress = await until('the progress to be written', async () => {
    const status = await client.getStatus({ step_id })
    return status.progress
  })
  assert.equal(progress.percent, 100)
  assert.equal(progress.message, 'done')
})

test('the list is the newest first, filters, and its cursor and Link lead through all pages', async () => {
  const tag = 'paged'
  const { step_ids } = await client.submitBatch({
    steps: Array.from({ length: 5 }, () => ({ type: 'greet', args: { name: 'p' }, tags: [tag] })),
  })
  const seen: string[] = []
  let cursor: string | undefined
  do {
    const page = await client.listSteps({ tag, limit: 2, ...(cursor === undefined ? {} : { cursor }) })
    seen.push(...page.steps.map((step) => step.step_id))
    cursor = page.next_cursor ?? undefined
  } while (cursor !== undefined)
  assert.deepEqual(seen, step_ids.toReversed())
  const reply = await get(pod.url, `/steps?tag=${tag}&limit=2`)
  assert.match(reply.headers.get('link') ?? '', /^<\/steps\?tag=paged&limit=2&cursor=[^>]+>; rel="next"$/)
})

test('a paused type is not claimed, why says who paused it and why, and resume lets it run', async () => {
  const pause = await client.pause({ type: 'greet', reason: 'the mail server is down' })
  assert.equal(pause.paused, true)
  const { step_id } = await client.submitStep({ type: 'greet', args: { name: 'paused' } })
  const why = await client.why({ step_id })
  assert.equal(why.reason, 'paused')
  assert.match(why.sentence, /the mail server is down/)
  assert.equal((await client.listPauses()).pauses.length, 1)
  assert.equal((await client.getStatus({ step_id })).tray, 'ready')
  await client.resume({ type: 'greet' })
  assert.equal((await client.waitFor(step_id)).status, 'completed')
})

test('a claimed step is told as running, cancel aborts its handler, and a second cancel is a conflict', async () => {
  const { step_id } = await client.submitStep({ type: 'gated', args: {} })
  await until(
    'the step to be claimed',
    async () => (await client.getStatus({ step_id })).status === 'claimed',
  )
  const why = await client.why({ step_id })
  assert.equal(why.running, true)
  assert.match(why.sentence, /It is running: attempt 1 of 4 on pod-/)
  const change = await client.cancelStep({ step_id, reason: 'not needed' })
  assert.equal(change.status, 'cancelled')
  const status = await client.getStatus({ step_id })
  assert.equal(status.status, 'cancelled')
  assert.equal(status.error?.message, 'not needed')
  await assert.rejects(client.cancelStep({ step_id }), (error) => refused(error, 409, 'conflict'))
  await until(
    'the handler to end',
    async () =>
      (await client.getHealth()).current_capacity + (await other.getHealth()).current_capacity === 0,
  )
})

test('a cancelled step that is tried again runs', async () => {
  const { step_id } = await client.submitStep({ type: 'greet', args: { name: 'again' }, delay_seconds: 3600 })
  await client.cancelStep({ step_id })
  const change = await client.retryStep({ step_id })
  assert.equal(change.status, 'pending')
  assert.equal((await client.waitFor(step_id)).status, 'completed')
  await assert.rejects(client.retryStep({ step_id }), (error) => refused(error, 409, 'conflict'))
})

test('a failed step is a dead letter; redriven it runs again, and a letter that is none is 404', async () => {
  const { step_id } = await client.submitStep({ type: 'fatal', args: {} })
  assert.equal((await client.waitFor(step_id)).status, 'failed')
  const { dead_letters } = await client.listDeadLetters({ type: 'fatal' })
  assert.deepEqual(
    dead_letters.map((letter) => [letter.step_id, letter.reason]),
    [[step_id, 'exhausted']],
  )
  await client.redriveDeadLetter({ step_id })
  await until(
    'it to fail again',
    async () => (await client.listDeadLetters({ type: 'fatal' })).dead_letters.length === 1,
  )
  const answer = await client.redriveDeadLetters({ filter: { type: 'fatal' }, dry_run: true })
  assert.deepEqual([answer.matched, answer.changed, answer.sample], [1, 0, [step_id]])
  const done = await client.redriveDeadLetters({ filter: { type: 'fatal' } })
  assert.equal(done.changed, 1)
  const healthy = await client.submitStep({ type: 'greet', args: { name: 'well' } })
  await assert.rejects(client.redriveDeadLetter({ step_id: healthy.step_id }), (error) =>
    refused(error, 404, 'not_found'),
  )
})

test('bulk cancel and bulk retry change what fits the filter, and a dry run only counts it', async () => {
  const batch = Array.from({ length: 7 }, () => ({
    type: 'greet',
    args: { name: 'b' },
    tags: ['bulk'],
    delay_seconds: 3600,
  }))
  await client.submitBatch({ steps: batch })
  const filter = { tag: 'bulk' }
  const dry = await client.cancelSteps({ filter, dry_run: true })
  assert.deepEqual([dry.matched, dry.changed, dry.dry_run, dry.more], [7, 0, true, false])
  const some = await client.cancelSteps({ filter, limit: 3 })
  assert.deepEqual([some.matched, some.changed, some.more], [3, 3, true])
  assert.equal((await client.cancelSteps({ filter })).changed, 4)
  assert.equal(
    (await client.retrySteps({ filter: { ...filter, status: 'cancelled' }, dry_run: true })).matched,
    7,
  )
  assert.equal((await client.retrySteps({ filter: { ...filter, status: 'cancelled' } })).changed, 7)
  await until(
    'all to complete',
    async () => (await client.listSteps({ tag: 'bulk', status: 'completed', limit: 100 })).steps.length === 7,
  )
  await assert.rejects(client.retrySteps({ filter: { status: 'completed' } }), (error) =>
    refused(error, 400, 'validation_error'),
  )
})

test('the queue is counted by priority and type, and its counts agree with the trays', async () => {
  await client.pause({ key: 'counted' })
  await client.submitBatch({
    steps: [1, 1, 5].map((priority) => ({ type: 'greet', args: { name: 'c' }, priority, key: 'counted' })),
  })
  const queue = await client.getQueue()
  assert.deepEqual(queue.queue_depth_by_priority, { '1': 2, '5': 1 })
  assert.deepEqual(queue.steps_by_type, { greet: 3 })
  assert.equal(queue.pending_steps, 3)
  assert.equal(queue.active_pods, 2)
  assert.equal(queue.current_leader, pod.id)
  assert.deepEqual(queue.pod_capacity[pod.id], { current: 0, max: 8 })
  const scale = await client.getScale()
  assert.deepEqual([scale.pending, scale.live_pods, scale.capacity, scale.wanted_pods], [3, 2, 16, 1])
  await client.cancelSteps({ filter: { key: 'counted' } })
  await client.resume({ key: 'counted' })
  assert.equal((await client.getQueue()).pending_steps, 0)
})

test('a type may be called what every object has, and is counted', async () => {
  await client.pause({ key: 'named' })
  await client.submitBatch({
    steps: ['toString', 'toString', 'constructor'].map((type) => ({ type, args: {}, key: 'named' })),
  })
  assert.deepEqual((await client.getQueue()).steps_by_type, { toString: 2, constructor: 1 })
  await client.cancelSteps({ filter: { key: 'named' } })
  await client.resume({ key: 'named' })
})

test('a limit is set, listed and taken away', async () => {
  const answer = await client.setLimit({ type: 'greet', max_running: 2, max_running_per_key: 1 })
  assert.match(answer.message, /at most 2 at once and 1 of each key at once/)
  assert.deepEqual((await client.listLimits()).limits, [
    { type: 'greet', max_running: 2, max_running_per_key: 1, running: 0 },
  ])
  await client.setLimit({ type: 'greet' })
  assert.deepEqual((await client.listLimits()).limits, [])
})

test('the leader is told with its birth, its term and who else could lead', async () => {
  const leader = await client.getLeader()
  assert.equal(leader.current_leader, pod.id)
  assert.equal(leader.active_pods, 2)
  assert.deepEqual(
    leader.election_details.eligible_pods.map((each) => each.pod_id),
    [pod.id],
  )
  assert.equal(leader.election_details.term, '1')
})

test('pods are listed with what they can and carry; one that drains takes nothing until it is told otherwise', async () => {
  const { pods } = await client.listPods()
  assert.deepEqual(
    pods.map((each) => each.pod_id),
    [pod.id, second.id],
  )
  assert.deepEqual(pods[0]?.types, ['greet', 'fatal', 'gated'])
  await client.drainPod({ pod_id: second.id })
  await until('the drain to be noticed', async () => (await other.getHealth()).draining)
  const { step_ids } = await client.submitBatch({
    steps: Array.from({ length: 20 }, () => ({ type: 'greet', args: { name: 'd' } })),
  })
  for (const id of step_ids) assert.equal((await client.waitFor(id)).claimed_by, pod.id)
  const answer = await client.drainPod({ pod_id: second.id, enabled: false })
  assert.equal(answer.draining, false)
  await until('the pod to take steps again', async () => !(await other.getHealth()).draining)
  await assert.rejects(client.drainPod({ pod_id: 'pod-nobody' }), (error) => refused(error, 404, 'not_found'))
})

test('recovery runs on the leader only; others relay, dry runs change nothing, cycles are written down', async () => {
  const run = await client.runRecovery({ force: true })
  assert.equal(run.status, 'completed')
  assert.equal(run.recovery_summary.dead_pods_found, 0)
  await assert.rejects(other.runRecovery({}), (error) => refused(error, 403, 'permission_denied'))
  const relayed = await other.runRecovery({ relay: true, force: true })
  assert.equal(relayed.status, 'completed')
  assert.match(relayed.recovery_summary.cycle_id, /^recovery_\d+$/)
  const before = (await client.listRecoveryCycles()).cycles.length
  const dry = await client.runRecovery({ dry_run: true })
  assert.equal(dry.recovery_summary.cycle_id, 'recovery_dry_run')
  const { cycles } = await client.listRecoveryCycles()
  assert.equal(cycles.length, before)
  assert.deepEqual(
    [...new Set(cycles.map((cycle) => [cycle.pod_id, cycle.forced, cycle.error].join()))],
    [`${pod.id},true,`],
  )
})

test('a cycle under way makes another one a conflict', async () => {
  await db.sql`insert into fleet_q.recovery_cycles (pod_id, term) select id, 1 from fleet_q.pods where public_id = ${second.id}`
  await assert.rejects(client.runRecovery({ force: true }), (error) => refused(error, 409, 'conflict'))
  await db.sql`update fleet_q.recovery_cycles set finished_at = now() where finished_at is null`
})

test('openapi.json, the reference and the metrics are served', async () => {
  assert.equal((await get(pod.url, '/openapi.json')).body['openapi'], '3.1.0')
  const docs = await fetch(`${pod.url}/docs`)
  assert.equal(docs.status, 200)
  assert.match(await docs.text(), /Why is this step, or this execution, not running/)
  const metrics = await (await fetch(`${pod.url}/metrics`)).text()
  for (const line of [
    /^fleet_q_pods_live 2$/m,
    /^fleet_q_steps_settled\{status="completed"\} \d+$/m,
    /^fleet_q_pod_leading 1$/m,
  ])
    assert.match(metrics, line)
})

test('an unknown path is 404 and a wrong method 405 with Allow', async () => {
  assert.equal((await get(pod.url, '/nothing')).status, 404)
  const wrong = await call(pod.url, 'DELETE', '/submit')
  assert.equal(wrong.status, 405)
  assert.equal(wrong.headers.get('allow'), 'POST')
})

after(() => gate.open())

test('the first token closes the door; what it opens, what it did and when it ends can be seen', async () => {
  const made = await client.createToken({ name: 'ops', role: 'admin' })
  await until('the door to close', async () => (await get(pod.url, '/admin/leader')).status === 401)
  const admin = createClient({ baseUrl: pod.url, token: made.token, fetch: counting })
  const viewer = await admin.createToken({ name: 'page', role: 'viewer', expires_in_seconds: 3600 })
  assert.equal(Date.parse(viewer.expires_at ?? '') - Date.parse(viewer.created_at), 3_600_000)
  const { tokens } = await admin.listTokens()
  assert.deepEqual(
    tokens.map(({ name, role }) => `${name} ${role}`),
    ['page viewer', 'ops admin'],
  )
  assert.equal((await admin.revokeToken({ token_id: viewer.token_id })).name, 'page')
  assert.equal((await admin.listTokens()).tokens.length, 1)
  assert.equal((await admin.listTokens({ show: 'all' })).tokens.length, 2)
  await assert.rejects(admin.revokeToken({ token_id: viewer.token_id }), (e) => refused(e, 409, 'conflict'))
  await assert.rejects(admin.revokeToken({ token_id: '999' }), (e) => refused(e, 404, 'not_found'))
  const { entries } = await admin.listAudit({ operation: 'createToken' })
  assert.deepEqual(
    entries.map(({ target, who }) => `${target} by ${who}`),
    [
      `token ${viewer.token_id} by token ${made.token_id} (ops)`,
      `token ${made.token_id} by nobody known: no token was ever made`,
    ],
  )
})

test('every operation of the table was called by this file', () => {
  assert.deepEqual(
    Object.values<Spec>(specs)
      .filter(({ door, name }) => door === 'fleet' && !called.has(name))
      .map(({ name }) => name),
    [],
  )
})
