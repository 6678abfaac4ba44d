import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { defineStep } from '../../src/step/handler.ts'
import { assertSound } from '../recovery/fleet.ts'
import { testDatabase } from '../support/database.ts'
import { get, post, submit } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { saysCommitted, saysDone, startProxy, type Link } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { assertAway } from './load.ts'

/** The connection between a pod and its database is cut at the worst moments. */

const db = await testDatabase()
await db.sql`create table public.ledger (step_id text, attempt int, n int)`

/** Each start of a handler here, in its order. */
const starts: { id: string; attempt: number }[] = []
const startsOf = (id: string) => starts.filter((start) => start.id === id)
const finish = new Map<string, (failure?: Error) => void>()

const note = (ctx: { stepId: string; attempt: number }) =>
  starts.push({ id: ctx.stepId, attempt: ctx.attempt })
const quick = defineStep('quick', { input: z.object({ n: z.number().default(0) }) }, ({ n }, ctx) => {
  note(ctx)
  return { n }
})
const slow = defineStep('slow', {}, (_, ctx) => {
  note(ctx)
  return new Promise((resolve) => setTimeout(resolve, 30))
})
const gated = defineStep('gated', {}, (_, ctx) => {
  note(ctx)
  return new Promise((resolve, reject) => {
    finish.set(ctx.stepId, (failure) => (failure ? reject(failure) : resolve({ done: true })))
    ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason as Error))
  })
})
const ledger = defineStep('ledger', {}, async (_, ctx) => {
  note(ctx)
  const tx = await ctx.tx()
  await tx`insert into public.ledger (step_id, attempt) values (${ctx.stepId}, ${ctx.attempt})`
  return { written: true }
})
const proxy = await startProxy(db.url)
const pod = await startTestPod(proxy.url, [quick, slow, gated, ledger])

const of = (pool: string) => (link: Link) => link.name.startsWith(`fleet-q ${pool} `)
const statusOf = async (id: string) => (await get(pod.url, `/status/${id}`)).body
const settled = (id: string, limitMs?: number) =>
  until(
    `${id} to settle`,
    async () => {
      const body = await statusOf(id)
      return body['tray'] === 'settled' && body
    },
    limitMs,
  )
const endings = (body: Record<string, unknown>) =>
  (body['attempts'] as { ended: string | null }[]).map(({ ended }) => ended)
const refused = async () => {
  const [row] = await db.sql<
    { n: number }[]
  >`select refused::int as n from fleet_q.pods where public_id = ${pod.id}`
  return row?.n
}

test('cut in the commit of a submit: the caller is told to try again, and with its key there is one step', async () => {
  const swallowed = proxy.swallowAnswer((answer, link) => of('door')(link) && saysCommitted(answer))
  const send = () => post(pod.url, '/submit', { type: 'quick', args: { n: 1 } }, { 'idempotency-key': 'cut' })
  assertAway(await send())
  await swallowed
  const again = await send()
  assert.equal(again.status, 200)
  assert.equal(again.headers.get('idempotency-replayed'), 'true')
  await settled(String(again.body['step_id']))
  assert.equal((await db.sql`select 1 from fleet_q.steps where args = '{"n": 1}'`).length, 1)
})

test('cut before the commit of a submit with a new type and key: what is sent again is stored where it is found', async () => {
  const swallowed = proxy.swallowAnswer(
    (answer, link) => of('door')(link) && link.statement === 'step.submit' && saysDone(answer),
  )
  const send = () =>
    post(
      pod.url,
      '/submit',
      { type: 'quick', key: 'a lane of its own', args: { n: 2 } },
      { 'idempotency-key': 'undone' },
    )
  assertAway(await send())
  await swallowed
  assert.equal((await db.sql`select 1 from fleet_q.steps where args = '{"n": 2}'`).length, 0)
  const again = await send()
  assert.equal(again.status, 201)
  assert.deepEqual((await settled(String(again.body['step_id'])))['result'], { n: 2 })
})

test('steps whose claim was answered to nobody are found and run, and lose no attempt', async () => {
  const swallowed = proxy.swallowAnswer(
    (answer, link) =>
      of('work')(link) && /^step\.(claim|exchange)$/.test(link.statement) && answer.includes('claimed'),
  )
  const ids = await Promise.all([submit(pod.url, { type: 'quick' }), submit(pod.url, { type: 'quick' })])
  await swallowed
  const begun = performance.now()
  const ends = await Promise.all(ids.map((id) => settled(id)))
  assert.ok(performance.now() - begun < 6000, `they ran only after ${performance.now() - begun} ms`)
  assert.ok(ends.some((end) => endings(end).includes('released')))
  for (const end of ends) assert.equal(end['retry_count'], 0)
  for (const id of ids) assert.equal(startsOf(id).length, 1)
})

test('steps whose claim was answered to nobody go before what waits behind them, on a pod that is alone and busy', async () => {
  const send = (count: number) =>
    post(pod.url, '/submit/batch', {
      steps: Array.from({ length: count }, () => ({ type: 'slow', args: {} })),
    })
  const batch = await send(800)
  const ids = batch.body['step_ids'] as string[]
  await until(
    'the pod to have marks to begin behind',
    () => starts.filter(({ id }) => ids.includes(id)).length > 60,
  )
  await proxy.swallowAnswer(
    (answer, link) =>
      of('work')(link) && /^step\.(claim|exchange)$/.test(link.statement) && answer.includes('claimed'),
  )
  const released = async () => {
    const rows = await db.sql<{ step_id: string; why: string }[]>`
      select fleet_q.step_public_id(steps.id, salt, steps.created_at) as step_id, error ->> 'message' as why
      from fleet_q.attempts join fleet_q.steps on steps.id = attempts.step_id where ended = 'released'`
    return rows.filter((row) => ids.includes(row.step_id))
  }
  const lost = await until('the lost steps to be found', async () => {
    const rows = (await released()).filter(({ why }) => why === 'the answer to its claim was lost')
    return rows.length > 0 && rows.map((row) => row.step_id)
  })
  // Before them come those that run, and those that had been claimed ahead and were given back earlier.
  const before = starts.filter(({ id }) => ids.includes(id)).length + (await released()).length
  await until('all to be done', () => ids.every((id) => startsOf(id).length > 0))
  const order = starts.map(({ id }) => id).filter((id) => ids.includes(id))
  const last = Math.max(...lost.map((id) => order.indexOf(id)))
  assert.ok(
    last < before + 60 && before + 60 < order.length - 100,
    `the last of them was number ${last}, ${before} went before`,
  )
})

test('a result whose receipt was lost is handed in again, counts once, and is no refusal', async () => {
  const before = await refused()
  for (const failure of [undefined, new Error('no luck')]) {
    const id = await submit(pod.url, { type: 'gated', max_retries: 0 })
    await until('it to run', () => finish.get(id))
    const swallowed = proxy.swallowAnswer(
      (answer, link) =>
        of('work')(link) && /^step\.(exchange|settle)$/.test(link.statement) && saysDone(answer),
    )
    finish.get(id)?.(failure)
    await swallowed
    assert.equal((await settled(id))['status'], failure ? 'failed' : 'completed')
    await until('its claim to end', async () => (await db.sql`select 1 from fleet_q.claims`).length === 0)
    assert.equal(startsOf(id).length, 1)
  }
  assert.equal(await refused(), before)
})

test('cut in the commit of a handler that wrote through its transaction: the write is there once, the step is done once', async () => {
  const swallowed = proxy.swallowAnswer((answer, link) => of('transactions')(link) && saysCommitted(answer))
  const id = await submit(pod.url, { type: 'ledger' })
  await swallowed
  assert.equal((await settled(id))['status'], 'completed')
  await until('its claim to end', async () => (await db.sql`select 1 from fleet_q.claims`).length === 0)
  assert.deepEqual(endings(await statusOf(id)), ['completed'])
  assert.equal(startsOf(id).length, 1)
  assert.equal((await db.sql`select 1 from public.ledger where step_id = ${id}`).length, 1)
})

test('cut in such a commit, and cut again as it asks what became of it: it goes on asking, and counts no failure', async () => {
  const inCommit = proxy.swallowAnswer((answer, link) => of('transactions')(link) && saysCommitted(answer))
  const inQuestion = proxy.swallowAnswer((_, link) => link.statement === 'step.lock_claim')
  const id = await submit(pod.url, { type: 'ledger' })
  await Promise.all([inCommit, inQuestion])
  assert.equal((await settled(id))['status'], 'completed')
  await until('its claim to end', async () => (await db.sql`select 1 from fleet_q.claims`).length === 0)
  assert.deepEqual(endings(await statusOf(id)), ['completed'])
  assert.equal(startsOf(id).length, 1)
})

test('cut before the commit of such a handler: its write is undone, and the next attempt writes it', async () => {
  const swallowed = proxy.swallowAnswer(
    (answer, link) => of('transactions')(link) && link.statement === 'step.settle' && saysDone(answer),
  )
  const id = await submit(pod.url, { type: 'ledger', retry: { strategy: 'fixed', base_ms: 10 } })
  await swallowed
  const end = await settled(id)
  assert.equal(end['status'], 'completed')
  const rows = await db.sql<{ attempt: number }[]>`select attempt from public.ledger where step_id = ${id}`
  assert.deepEqual([...rows], [{ attempt: startsOf(id).length }])
})

test('connections are reset and cut all the time: everything completes once, and nothing is refused', async () => {
  const before = await refused()
  const nemesis = setInterval(() => {
    const which = () => Math.random() < 0.4
    if (Math.random() < 0.5) proxy.reset(which)
    else proxy.cut(which)
  }, 60)
  const ids: string[] = []
  for (let n = 0; n < 60; n++) {
    const send = () =>
      post(pod.url, '/submit', { type: 'quick', args: { n: 1000 + n } }, { 'idempotency-key': `storm ${n}` })
    const reply = await until('a submit to be accepted', async () => {
      const answer = await send()
      if (answer.status >= 300) assertAway(answer)
      return answer.status < 300 && answer
    })
    ids.push(String(reply.body['step_id']))
  }
  clearInterval(nemesis)
  for (const [n, id] of ids.entries()) assert.deepEqual((await settled(id))['result'], { n: 1000 + n })
  const [row] = await db.sql<{ n: number }[]>`
    select count(*)::int as n from fleet_q.steps where (args ->> 'n')::int between 1000 and 1999`
  assert.equal(row?.n, 60)
  assert.equal(await refused(), before)
  await assertSound(db.sql)
})

test('a slow network (80 ms each way) makes everything slow, and nothing else', async () => {
  proxy.delay(80)
  const ids = await Promise.all([1, 2, 3].map((n) => submit(pod.url, { type: 'quick', args: { n } })))
  for (const id of ids) assert.equal((await settled(id))['retry_count'], 0)
  assert.equal((await get(pod.url, '/readyz')).status, 200)
  proxy.pass()
})
