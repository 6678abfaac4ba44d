import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { defineStep } from '../../src/step/handler.ts'
import { assertSound } from '../recovery/fleet.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { get, post, submit } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { startPodProcess } from '../support/processes.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { assertAway } from './load.ts'

/** Nothing comes through between pods and their database, and nobody tells either end. */

const HANDLERS = fileURLToPath(new URL('./handlers', import.meta.url))
// A busy machine must not make a pod look dead, and a silence is longer than this.
const DEAD_AFTER_SECONDS = 2.5
const PATIENT = { FLEET_Q_HEARTBEAT_SECONDS: '0.5', FLEET_Q_DEAD_AFTER_SECONDS: String(DEAD_AFTER_SECONDS) }

/** Opened by the test; a second attempt finds it open. */
const gates = new Map<string, () => void>()
const gatedLedger = defineStep(
  'gated-ledger',
  { input: z.object({ writesTwice: z.boolean().default(false) }) },
  async ({ writesTwice }, ctx) => {
    const tx = await ctx.tx()
    const write = () =>
      tx`insert into public.ledger (step_id, attempt) values (${ctx.stepId}, ${ctx.attempt})`
    await write()
    if (ctx.attempt === 1) await new Promise<void>((resolve) => gates.set(ctx.stepId, resolve))
    if (writesTwice) await write()
    return {}
  },
)

const endings = (body: Record<string, unknown>) =>
  (body['attempts'] as { ended: string | null }[]).map(({ ended }) => ended)

test('a pod that is cut off lets go before another one starts its step, and ends when it learns that it was declared dead', async () => {
  const alone = await testDatabase()
  const network = await startProxy(alone.url)
  const folder = mkdtempSync(join(tmpdir(), 'fleet-q-cut-off-'))
  atEnd(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'notes')
  const notes = () =>
    existsSync(file)
      ? readFileSync(file, 'utf8')
          .split('\n')
          .filter(Boolean)
          .map((line) => line.split(' '))
      : []
  const env = { ...PATIENT, FLEET_Q_HANDLERS: HANDLERS }
  const [other, cutOff] = await Promise.all([
    startPodProcess(alone.url, env),
    startPodProcess(network.url, env),
  ])
  await post(other.url, `/admin/pods/${other.id}/drain`)
  const id = await submit(other.url, { type: 'watched', args: { file } })
  await until('the step to run', () => notes().length === 1)
  assert.equal(Number(notes()[0]?.[2]), cutOff.pid)
  await post(other.url, `/admin/pods/${other.id}/drain`, { enabled: false })

  network.blackhole()
  const lines = await until('another pod to start it', () => notes().length === 3 && notes())
  assert.deepEqual(
    lines.map(([what, attempt, pid]) => [what, Number(attempt), Number(pid)]),
    [
      ['start', 1, cutOff.pid],
      ['abort:silence', 1, cutOff.pid],
      ['start', 2, other.pid],
    ],
  )
  const [, letGo = 0n, started = 0n] = lines.map((line) => BigInt(line[3] ?? 0))
  assert.ok(letGo < started, 'two pods ran it at one time')
  network.pass()
  const { code, signal } = await cutOff.exited
  assert.ok(code === 1 || signal === 'SIGKILL', `${code} ${signal}`)
  await post(other.url, `/steps/${id}/cancel`)
  await assertSound(alone.sql)
})

test('every connection of a fleet is half-open for longer than its threshold: no process ends, nobody is declared dead', async () => {
  const alone = await testDatabase()
  const networks = [await startProxy(alone.url), await startProxy(alone.url)] as const
  // The older one leads.
  const leader = await startPodProcess(networks[0].url, PATIENT)
  const other = await startPodProcess(networks[1].url, PATIENT)
  const fleet = [leader, other]
  let ended = 0
  for (const each of fleet) void each.exited.then(() => ended++)
  const id = await submit(leader.url, { type: 'polite', args: { ms: 600_000 } })
  await until('it to run', async () => (await get(leader.url, `/status/${id}`)).body['tray'] === 'claimed')

  for (const network of networks) network.blackhole()
  const refusal = post(leader.url, '/submit', { type: 'polite', args: {} })
  for (const each of fleet) {
    await until('two thresholds of silence', async () => {
      const { status, body } = await get(each.url, '/health')
      assert.equal(status, 200)
      const loops = body['loops'] as Record<string, { age_seconds: number }>
      const silence = loops['heartbeat']?.age_seconds ?? 0
      return body['database'] === 'away' && silence > DEAD_AFTER_SECONDS * 2 + 0.2
    })
    assert.equal((await get(each.url, '/readyz')).status, 503)
  }
  assertAway(await refusal)

  // The leader is back first, and has a look at the silent other before that one can report.
  const [now] = await alone.sql<{ at: Date }[]>`select clock_timestamp() as at`
  networks[0].pass()
  networks[0].reset()
  await until('a round of the leader', async () => {
    const rows = await alone.sql`
      select 1 from fleet_q.leader_terms where ended_at is null and proved_at > ${now?.at.toISOString() ?? ''}::timestamptz`
    return rows.length > 0
  })
  networks[1].pass()

  const accepted = await until('submits to be accepted by both', async () => {
    const replies = await Promise.all(
      fleet.map(({ url }) => post(url, '/submit', { type: 'polite', args: { ms: 10 } })),
    )
    return (
      replies.every(({ status }) => status === 201) && replies.map((reply) => String(reply.body['step_id']))
    )
  })
  const body = (of: string) => get(leader.url, `/status/${of}`).then((reply) => reply.body)
  for (const step of accepted)
    await until('new work to be done', async () => (await body(step))['status'] === 'completed')
  await until('the step that was let go to run again', async () => {
    const { tray, ...rest } = await body(id)
    return tray === 'claimed' && endings(rest).includes('released')
  })
  assert.equal((await body(id))['retry_count'], 0)
  await until('the other to beat again', async () => (await get(other.url, '/readyz')).status === 200)
  const statuses = await alone.sql<{ status: string }[]>`select status from fleet_q.pods`
  assert.deepEqual([...statuses], [{ status: 'live' }, { status: 'live' }])
  assert.equal(ended, 0)
  await post(leader.url, `/steps/${id}/cancel`)
  await assertSound(alone.sql)
})

test("a handler's connection dies without a word: in a write, before its settle, before its first: seconds later it is tried again, and its neighbours never know", async () => {
  const alone = await testDatabase()
  await alone.sql`create table public.ledger (step_id text, attempt int)`
  const network = await startProxy(alone.url)
  const pod = await startTestPod(network.url, [gatedLedger], { FLEET_Q_MAX_PARALLELISM: '10' })
  const step = (args: object) => submit(pod.url, { type: 'gated-ledger', args, retry: { base_ms: 10 } })
  const statusOf = (id: string) => get(pod.url, `/status/${id}`).then((reply) => reply.body)
  const transactions = (link: { name: string }) => link.name.startsWith('fleet-q transactions ')

  const victims = [await step({}), await step({ writesTwice: true })]
  for (const id of victims) await until('it to have written', () => gates.get(id))
  network.blackhole('both', transactions)
  const neighbour = await step({})
  await until('the neighbour to have written', () => gates.get(neighbour))
  for (const id of victims) gates.get(id)?.()
  for (const id of victims)
    await until('its second attempt', async () => (await statusOf(id))['status'] === 'completed')
  gates.get(neighbour)?.()
  await until('it to complete', async () => (await statusOf(neighbour))['status'] === 'completed')
  // All of them rest now, and die in their sleep: the next handler takes one, and does not learn of it.
  network.blackhole('both', transactions)
  const last = await step({})
  const open = await until('it to have written', () => gates.get(last))
  open()
  await until('it to complete', async () => (await statusOf(last))['status'] === 'completed')

  const rows = await alone.sql<{ step_id: string; attempt: number }[]>`select * from public.ledger`
  assert.deepEqual(
    rows.map(({ step_id, attempt }) => `${step_id} ${attempt}`).toSorted(),
    [
      ...victims.map((id) => `${id} 2`),
      ...victims.slice(1).map((id) => `${id} 2`),
      `${neighbour} 1`,
      `${last} 1`,
    ].toSorted(),
  )
  await assertSound(alone.sql)
})
