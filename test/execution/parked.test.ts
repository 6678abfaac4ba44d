import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defineStep, type StepContext } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { get, post } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

/** A deploy that does not fit parks many at once; who brings the code back finds them, and lets them go on together. */

let isDeployed = false
const shifted = async (_: unknown, ctx: StepContext) => {
  await ctx.run(isDeployed ? 'new' : 'old', () => 1)
  await ctx.waitForEvent('go')
  return 'went'
}
const db = await testDatabase()
const pod = await startTestPod(db.url, [defineStep('order', {}, shifted), defineStep('invoice', {}, shifted)])

const ORDERS = Array.from({ length: 25 }, (_, n) => `order-${n}`)
const INVOICES = ['invoice-0', 'invoice-1']
const all = [...ORDERS, ...INVOICES]
/** Of the same type; the deploy has not met it yet. */
const ASLEEP = 'order-99'
const typeOf = (id: string) => id.replace(/-\d+$/, '')
const look = async (id: string) => (await get(pod.url, `/api/v1/executions/${id}`)).body
const list = async (query: string) =>
  (await get(pod.url, `/api/v1/executions?${query}`)).body as unknown as Record<string, unknown>[]
const idsOf = (rows: Record<string, unknown>[]) => rows.map((row) => String(row['execution_id'])).toSorted()
const start = (id: string) =>
  post(pod.url, '/api/v1/executions', { execution_id: id, task_name: typeOf(id), payload: {} })
const retry = (filter: object, rest: object = {}) => post(pod.url, '/steps/retry', { filter, ...rest })

test('executions that a deploy has parked are listed by themselves', async () => {
  for (const id of [...all, ASLEEP]) await start(id)
  await until('all to wait', async () => {
    const rows = await list('limit=100')
    return rows.every((row) => row['worker_id'] === null && String(row['waiting_for']) !== '')
  })
  assert.deepEqual(await list('attention=true'), [])
  isDeployed = true
  for (const id of all) await post(pod.url, `/api/v1/events/${id}/go`)
  await until('all to be parked', async () => (await list('attention=true&limit=100')).length === all.length)

  const rows = await list('attention=true&limit=100')
  assert.deepEqual(idsOf(rows), all.toSorted())
  for (const row of rows) assert.match(String(row['attention']), /asks for "new" where it asked for "old"/)
  assert.deepEqual(idsOf(await list('attention=true&task_name=invoice')), INVOICES)
  const { headers } = await get(pod.url, '/api/v1/executions?attention=true&limit=20')
  const next = /<([^>]*)>; rel="next"/.exec(headers.get('link') ?? '')?.[1]
  assert.ok(next)
  const rest = (await get(pod.url, next.replace(/^https?:\/\/[^/]*/, ''))).body as unknown as unknown[]
  assert.equal(rest.length, all.length - 20)
  const { body } = await get(pod.url, '/steps?attention=true&type=invoice')
  assert.equal((body['steps'] as unknown[]).length, INVOICES.length)
})

test('why one of them does not run is answered by the id that its client gave it', async () => {
  const { body } = await get(pod.url, '/why/order-7')
  assert.equal(body['reason'], 'needs_attention')
  assert.equal(body['step_id'], (await look('order-7'))['step_id'])
  const unknown = await get(pod.url, '/why/order-700')
  assert.equal(unknown.status, 404)
  assert.match(String(unknown.body['detail']), /order-700/)
})

test('with the code back they go on together, as many as was said, and nobody else does', async () => {
  const orders = { attention: true, type: 'order' }
  const dry = await retry(orders, { dry_run: true })
  assert.deepEqual([dry.body['matched'], dry.body['changed']], [ORDERS.length, 0])
  isDeployed = false
  const some = await retry(orders, { limit: 10 })
  assert.deepEqual([some.body['changed'], some.body['more']], [10, true])
  const others = await retry(orders)
  assert.deepEqual([others.body['changed'], others.body['more']], [ORDERS.length - 10, false])
  for (const id of ORDERS)
    await until(`${id} to end`, async () => {
      const { status, result } = await look(id)
      return status === 'completed' && result === 'went'
    })
  assert.deepEqual(idsOf(await list('attention=true')), INVOICES)
  assert.deepEqual((await look(ASLEEP))['waiting_for'], ['go'])
  const { body } = await get(pod.url, '/admin/audit?limit=1')
  const [newest] = body['entries'] as { details: Record<string, unknown> }[]
  assert.deepEqual(newest?.details['filter'], {
    type: 'order',
    attention: true,
  })
})

test('what is parked has not ended, so a status does not go with it', async () => {
  const { status, body } = await retry({ attention: true, status: 'failed' })
  assert.equal(status, 400)
  assert.match(String(body['detail']), /has not ended/)
  const no = await get(pod.url, '/api/v1/executions?attention=false')
  assert.equal(no.body['detail'], 'attention must be true')
})

test('those that are not wanted any more are cancelled together', async () => {
  const { body } = await post(pod.url, '/steps/cancel', { filter: { attention: true } })
  assert.equal(body['changed'], INVOICES.length)
  for (const id of INVOICES) assert.equal((await look(id))['status'], 'cancelled')
  assert.deepEqual((await look(ASLEEP))['waiting_for'], ['go'])
})
