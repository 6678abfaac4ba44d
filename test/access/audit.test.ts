import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forgetAudit } from '../../src/access/audit.sql.ts'
import { createClient } from '../../src/client.ts'
import { specs } from '../../src/http/specs.ts'
import { defineStep, NonRetryableError } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { post } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

/** Every change that a person makes is written down with the change: both are there, or neither. */

const db = await testDatabase()
const pod = await startTestPod(db.url, [
  defineStep('fatal', {}, () => {
    throw new NonRetryableError('no use')
  }),
])
const { token } = await createClient({ baseUrl: pod.url }).createToken({ name: 'ops', role: 'admin' })
const client = createClient({ baseUrl: pod.url, token })
await until('the pod to lead', async () => (await client.getLeader()).current_leader === pod.id)

const submit = async (type: string) => (await client.submitStep({ type, args: {} })).step_id
const fail = async () => {
  const stepId = await submit('fatal')
  await client.waitFor(stepId)
  return stepId
}

/** What each operation that asks for more than a viewer or producer does, and what it leaves in the audit. */
const DEEDS: Record<string, () => Promise<{ target: string | null; details: object }>> = {
  async cancelStep() {
    const step_id = await submit('nobody.handles')
    await client.cancelStep({ step_id, reason: 'a mistake' })
    return { target: step_id, details: { reason: 'a mistake', claimed: false } }
  },
  async retryStep() {
    const step_id = await fail()
    await client.retryStep({ step_id })
    return { target: step_id, details: { was: 'failed' } }
  },
  async cancelSteps() {
    const step_id = await submit('nobody.handles')
    await client.cancelSteps({ filter: { type: 'nobody.handles' } })
    return {
      target: null,
      details: {
        filter: { type: 'nobody.handles', status: ['pending', 'claimed'] },
        changed: 1,
        sample: [step_id],
      },
    }
  },
  async retrySteps() {
    const step_id = await submit('unknown')
    await client.cancelStep({ step_id })
    await client.retrySteps({ filter: { type: 'unknown', status: 'cancelled' } })
    return {
      target: null,
      details: { filter: { type: 'unknown', status: ['cancelled'] }, changed: 1, sample: [step_id] },
    }
  },
  async runRecovery() {
    const { recovery_summary } = await client.runRecovery({ force: true })
    return { target: recovery_summary.cycle_id, details: { forced: true } }
  },
  async redriveDeadLetter() {
    const step_id = await fail()
    await until('its dead letter', async () =>
      (await client.listDeadLetters()).dead_letters.some((letter) => letter.step_id === step_id),
    )
    await client.redriveDeadLetter({ step_id })
    return { target: step_id, details: { was: 'failed' } }
  },
  async redriveDeadLetters() {
    const step_id = await fail()
    const all = (await client.listDeadLetters({ type: 'fatal' })).dead_letters.map((letter) => letter.step_id)
    assert.ok(all.includes(step_id))
    await client.redriveDeadLetters({ filter: { type: 'fatal' } })
    return { target: null, details: { filter: { type: 'fatal' }, changed: all.length, sample: all } }
  },
  async drainPod() {
    await client.drainPod({ pod_id: pod.id, enabled: false })
    return { target: pod.id, details: { drain: false } }
  },
  async pause() {
    await client.pause({ type: 'mail', reason: 'the server is down' })
    return { target: 'mail', details: { type: 'mail', reason: 'the server is down' } }
  },
  async resume() {
    await client.resume({ type: 'mail' })
    return { target: 'mail', details: { type: 'mail' } }
  },
  async pauseExecution() {
    const { step_id } = await client.startExecution({ execution_id: 'order-1', task_name: 'nobody.handles' })
    assert.match(step_id, /^step_/)
    await client.pauseExecution({ execution_id: 'order-1', reason: 'stock-taking' })
    return { target: 'order-1', details: { execution: 'order-1', reason: 'stock-taking' } }
  },
  async resumeExecution() {
    await client.resumeExecution({ execution_id: 'order-1' })
    return { target: 'order-1', details: { execution: 'order-1' } }
  },
  async cancelExecution() {
    await client.cancelExecution({ execution_id: 'order-1' })
    const { step_id } = await client.getExecution({ execution_id: 'order-1' })
    return { target: step_id, details: { reason: 'cancelled by an operator', claimed: false } }
  },
  async retryExecution() {
    await client.retryExecution({ execution_id: 'order-1', reason: 'they want it after all' })
    return { target: 'order-1', details: { from: 'failure', reason: 'they want it after all' } }
  },
  async restartExecution() {
    await client.cancelExecution({ execution_id: 'order-1' })
    await client.restartExecution({ execution_id: 'order-1' })
    return { target: 'order-1', details: { from: 'top' } }
  },
  async setLimit() {
    await client.setLimit({ type: 'mail', max_running: 3 })
    return { target: 'mail', details: { max_running: 3, max_running_per_key: null } }
  },
  async createToken() {
    const made = await client.createToken({ name: 'page', role: 'viewer' })
    return { target: `token ${made.token_id}`, details: { name: 'page', role: 'viewer', expires_at: null } }
  },
  async revokeToken() {
    const [made] = (await client.listTokens()).tokens.filter(({ name }) => name === 'page')
    await client.revokeToken({ token_id: made?.token_id ?? '' })
    return { target: `token ${made?.token_id}`, details: { name: 'page', role: 'viewer' } }
  },
}

test('what an operator changes is written down: who, what, from where, and what it was about', async () => {
  for (const [operation, act] of Object.entries(DEEDS)) {
    const { target, details } = await act()
    const [entry] = (await client.listAudit({ operation, limit: 1 })).entries
    assert.ok(entry, operation)
    assert.deepEqual({ target: entry.target, details: entry.details }, { target, details }, operation)
    assert.deepEqual([entry.who, entry.role, entry.ip], ['token 1 (ops)', 'admin', '127.0.0.1'])
    assert.match(entry.request_id ?? '', /^[0-9a-f-]{36}$/)
  }
})

test('every operation that changes the fleet is among those', () => {
  const changing = Object.values(specs).filter(({ method, role }) => method !== 'GET' && role !== 'producer')
  assert.deepEqual(changing.map(({ name }) => name).toSorted(), Object.keys(DEEDS).toSorted())
})

test('where the line cannot be written, nothing is changed', async () => {
  const step_id = await submit('nobody.handles')
  const failed = await fail()
  await db.sql`alter table fleet_q.audit add constraint shut check (operation = 'nothing') not valid`
  for (const [path, body] of [
    [`/steps/${step_id}/cancel`, {}],
    ['/steps/cancel', { filter: { type: 'nobody.handles' } }],
    [`/steps/${failed}/retry`, {}],
    ['/admin/pause', { type: 'shut' }],
    ['/admin/pause', { execution: 'shut-*' }],
    ['/api/v1/executions/order-1/cancel', undefined],
    ['/admin/resume', { type: 'mail' }],
    ['/admin/limits', { type: 'shut', max_running: 1 }],
    [`/admin/pods/${pod.id}/drain`, { enabled: true }],
    ['/admin/recovery/run', { force: true }],
    ['/admin/tokens', { name: 'shut', role: 'viewer' }],
    ['/admin/tokens/1/revoke', undefined],
  ] as const) {
    const reply = await post(pod.url, path, body, { authorization: `Bearer ${token}` })
    assert.ok(reply.status === 500 || path === '/admin/resume', `${path} answered ${reply.status}`)
  }
  await db.sql`alter table fleet_q.audit drop constraint shut`
  assert.equal((await client.getStatus({ step_id })).status, 'pending')
  assert.equal((await client.getStatus({ step_id: failed })).status, 'failed')
  assert.deepEqual((await client.listPauses()).pauses, [])
  assert.equal((await client.listLimits()).limits.length, 1)
  assert.equal((await client.listPods()).pods[0]?.drain_wanted, false)
  assert.ok(!(await client.listTokens()).tokens.some(({ name }) => name === 'shut'))
  const [running] =
    await db.sql`select count(*)::int as n from fleet_q.recovery_cycles where finished_at is null`
  assert.equal(running?.['n'], 0, 'no cycle was left open')
})

test('a dry run, and what changes nothing, leave no line', async () => {
  const [before] = (await client.listAudit({ limit: 1 })).entries
  await client.cancelSteps({ filter: { type: 'nobody.handles' }, dry_run: true })
  await client.cancelSteps({ filter: { type: 'there.is.none' } })
  await client.runRecovery({ dry_run: true })
  await client.resume({ type: 'never.paused' })
  const [after] = (await client.listAudit({ limit: 1 })).entries
  assert.deepEqual(after, before)
})

test('lines are found by what they were about, page by page, and go by age alone', async () => {
  const first = await client.listAudit({ limit: 5 })
  const next = await client.listAudit({ limit: 5, cursor: first.next_cursor ?? '' })
  assert.equal(new Set([...first.entries, ...next.entries].map(({ request_id }) => request_id)).size, 10)
  const about = await client.listAudit({ target: pod.id })
  assert.deepEqual(
    about.entries.map(({ operation }) => operation),
    ['drainPod'],
  )
  const DAY = 86_400
  await assert.rejects(
    db.database.run((sql) => forgetAudit(sql, 29 * DAY, 100)),
    /30 days at least/,
  )
  assert.deepEqual([...(await db.database.run((sql) => forgetAudit(sql, 30 * DAY, 100)))], [{ forgotten: 0 }])
  await db.travel('31 days')
  assert.deepEqual([...(await db.database.run((sql) => forgetAudit(sql, 30 * DAY, 3)))], [{ forgotten: 3 }])
})
