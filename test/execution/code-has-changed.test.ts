import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defineStep, type StepContext } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { get, post } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

const db = await testDatabase()

/** The code of yesterday, and that of today. */
type Code = (ctx: StepContext) => Promise<unknown>
const CHANGES: Record<string, { before: Code; after: Code; says: string }> = {
  'one is taken out': {
    before: (ctx) => inTurn(ctx, ['a', 'b']),
    after: (ctx) => inTurn(ctx, ['b']),
    says: 'the code asks for "b" where it asked for "a" before',
  },
  'two change places': {
    before: (ctx) => inTurn(ctx, ['a', 'b']),
    after: (ctx) => inTurn(ctx, ['b', 'a']),
    says: 'the code asks for "b" where it asked for "a" before',
  },
  'a loop is shorter': {
    before: (ctx) => inTurn(ctx, ['a', 'a', 'z']),
    after: (ctx) => inTurn(ctx, ['a', 'z']),
    says: 'the code asks for "z" where it asked for "a" before',
  },
  'one has another name': {
    before: (ctx) => inTurn(ctx, ['a']),
    after: (ctx) => inTurn(ctx, ['new']),
    says: 'the code asks for "new" where it asked for "a" before',
  },
  'the event has another name': {
    before: (ctx) => inTurn(ctx, ['a']),
    after: async (ctx) => {
      await ctx.run('a', () => 'a')
      await ctx.waitForEvent('went')
    },
    says: 'the code asks for "went" where it asked for "go" before',
  },
  'a wait beside another is taken out': {
    before: (ctx) => Promise.all([ctx.waitForEvent('go'), ctx.waitForEvent('other', { timeout: '1 hour' })]),
    after: (ctx) => ctx.waitForEvent('other', { timeout: '1 hour' }),
    says: 'the code asks for "other" where it asked for "go" before',
  },
}

async function inTurn(ctx: StepContext, names: string[]) {
  for (const name of names) await ctx.run(name, () => name)
  await ctx.waitForEvent('go')
}

let isDeployed = false
const idOf = (change: string) => change.replaceAll(' ', '-')
const pod = await startTestPod(
  db.url,
  Object.entries(CHANGES).map(([type, { before, after }]) =>
    defineStep(idOf(type), { timeoutSeconds: 6 }, (_, ctx) => (isDeployed ? after(ctx) : before(ctx))),
  ),
)

const look = async (id: string) => (await get(pod.url, `/api/v1/executions/${id}`)).body

test('code that fits no longer parks its execution, which says where, and holds no slot', async () => {
  for (const type of Object.keys(CHANGES)) {
    await post(pod.url, '/api/v1/executions', {
      execution_id: idOf(type),
      task_name: idOf(type),
      payload: {},
    })
    await until(`${type} to wait`, async () => {
      const { worker_id, waiting_for } = await look(idOf(type))
      return worker_id === null && String(waiting_for).includes('go')
    })
  }
  isDeployed = true
  for (const [type, { says }] of Object.entries(CHANGES)) {
    await post(pod.url, `/api/v1/events/${idOf(type)}/go`, {})
    const parked = await until(`${type} to be parked`, async () => {
      const body = await look(idOf(type))
      return body['attention'] !== null && body
    })
    assert.match(String(parked['attention']), new RegExp(says), type)
    const [row] = await db.sql<{ attempts: number }[]>`
      select count(*)::int as attempts from fleet_q.attempts
      where step_id = fleet_q.execution_key(${idOf(type)})`
    assert.ok(row && row.attempts <= 3, `${type}: ${row?.attempts} attempts`)
  }
})

test('with the code of before it goes on where it stood', async () => {
  isDeployed = false
  for (const type of Object.keys(CHANGES)) {
    const { status } = await post(pod.url, `/api/v1/executions/${idOf(type)}/retry`, {})
    assert.equal(status, 200)
    await post(pod.url, `/api/v1/events/${idOf(type)}/other`, {})
    const { body } = await get(pod.url, `/api/v1/executions/${idOf(type)}/wait`)
    assert.equal(body['status'], 'completed', type)
  }
})
