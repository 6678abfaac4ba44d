import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { assertSound } from '../recovery/fleet.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { get, post, submit } from '../support/http.ts'
import { startPodProcess } from '../support/processes.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { assertAway } from './load.ts'

/** Nothing comes through between pods and their database, and nobody tells either end. */

const HANDLERS = fileURLToPath(new URL('./handlers', import.meta.url))

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
  const env = { FLEET_Q_HANDLERS: HANDLERS }
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
  const network = await startProxy(alone.url)
  const fleet = await Promise.all([startPodProcess(network.url), startPodProcess(network.url)])
  const [one] = fleet
  let ended = 0
  for (const each of fleet) void each.exited.then(() => ended++)
  const id = await submit(one.url, { type: 'polite', args: { ms: 600_000 } })
  await until('it to run', async () => (await get(one.url, `/status/${id}`)).body['tray'] === 'claimed')

  network.blackhole()
  const refusal = post(one.url, '/submit', { type: 'polite', args: {} })
  for (const each of fleet) {
    await until('two thresholds of silence', async () => {
      const { status, body } = await get(each.url, '/health')
      assert.equal(status, 200)
      const loops = body['loops'] as Record<string, { age_seconds: number }>
      return body['database'] === 'away' && (loops['heartbeat']?.age_seconds ?? 0) > 3.2
    })
    assert.equal((await get(each.url, '/readyz')).status, 503)
  }
  assertAway(await refusal)
  network.pass()

  const short = await until('a submit to be accepted', async () => {
    const answer = await post(one.url, '/submit', { type: 'polite', args: { ms: 10 } })
    return answer.status === 201 && String(answer.body['step_id'])
  })
  const body = (of: string) => get(one.url, `/status/${of}`).then((reply) => reply.body)
  await until('new work to be done', async () => (await body(short))['status'] === 'completed', 15_000)
  await until('the step that was let go to run again', async () => {
    const now = await body(id)
    return now['tray'] === 'claimed' && endings(now).includes('released')
  })
  assert.equal((await body(id))['retry_count'], 0)
  const statuses = await alone.sql<{ status: string }[]>`select status from fleet_q.pods`
  assert.deepEqual([...statuses], [{ status: 'live' }, { status: 'live' }])
  assert.equal(ended, 0)
  await post(one.url, `/steps/${id}/cancel`)
  await assertSound(alone.sql)
})
