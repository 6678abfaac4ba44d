import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allSettled, assertSound, lives, startsFile } from '../recovery/fleet.ts'
import { get, post, type Reply } from '../support/http.ts'
import { startPodProcess, type PodProcess } from '../support/processes.ts'
import { until } from '../support/until.ts'
import { startOwnServer, type Way } from './server.ts'

/** Promise 10: an outage of the database loses nothing and kills nobody. Three pods live through all of it. */

const DEAD_AFTER_MS = 2500
const CALLERS = 6

const server = await startOwnServer()
const file = startsFile()
const pods = await Promise.all(
  Array.from({ length: 3 }, () =>
    startPodProcess(server.url, {
      FLEET_Q_HEARTBEAT_SECONDS: '0.5',
      FLEET_Q_DEAD_AFTER_SECONDS: String(DEAD_AFTER_MS / 1000),
    }),
  ),
)
const ended: string[] = []
for (const pod of pods) void pod.exited.then(({ code, signal }) => ended.push(`${pod.id}: ${code ?? signal}`))

/** What a client is told while the database is away. */
function assertAway({ status, headers, body }: Reply) {
  assert.equal(status, 503, JSON.stringify(body))
  assert.match(headers.get('retry-after') ?? '', /^[1-9]\d*$/)
  assert.equal(body['error_type'], 'database_unavailable')
  assert.equal(body['path'], '/submit')
  for (const field of ['detail', 'error', 'timestamp', 'request_id'])
    assert.ok(typeof body[field] === 'string' && body[field] !== '', `${field} in ${JSON.stringify(body)}`)
  assert.doesNotMatch(JSON.stringify(body), /ECONN|57P0|postgres/i)
}

/** Clients that submit all the time, each time with a key of its own, and repeat what was not accepted. */
function startCallers(name: string) {
  const accepted: { id: string; n: number }[] = []
  const answers = { accepted: 0, replayed: 0, away: 0 }
  let wanted = true
  let count = 0
  async function callOften(first: number) {
    for (let pod = first; wanted;) {
      const n = count++
      const wish = { type: 'polite', args: { file: file.path, ms: 20 + (n % 10) * 20, n } }
      for (;;) {
        const { url } = pods[pod++ % pods.length] ?? {}
        assert.ok(url)
        const reply = await post(url, '/submit', wish, { 'idempotency-key': `${name} ${n}` })
        if (reply.status === 201 || reply.status === 200) {
          answers[reply.status === 201 ? 'accepted' : 'replayed']++
          accepted.push({ id: String(reply.body['step_id']), n })
          break
        }
        assertAway(reply)
        answers.away++
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  const done = Promise.all(Array.from({ length: CALLERS }, (_, i) => callOften(i)))
  // Awaited at the end; a failure before that is not to end the process.
  done.catch(() => {})
  return {
    answers,
    accepted,
    async stop() {
      wanted = false
      await done
    },
  }
}

async function seenFrom(pod: PodProcess) {
  const [health, ready] = await Promise.all([get(pod.url, '/health'), get(pod.url, '/readyz')])
  return {
    health: health.status,
    database: health.body['database'],
    ready: ready.status,
    is: ready.body['status'],
  }
}
const AWAY = { health: 200, database: 'away', ready: 503, is: 'database_away' }
const HERE = { health: 200, database: 'ok', ready: 200, is: 'ready' }
const allSee = (what: typeof AWAY) =>
  until(`every pod to say ${JSON.stringify(what)}`, async () => {
    const seen = await Promise.all(pods.map(seenFrom))
    // Alive by its own word throughout: nobody is to restart it.
    assert.ok(seen.every(({ health }) => health === 200))
    return seen.every((each) => JSON.stringify(each) === JSON.stringify(what))
  })

/** The leader has looked for dead pods when the grace after the outage was over. */
const leaderHasLooked = () =>
  until('the leader to look for dead pods again', async () => {
    const rows = await server.sql()`
      select 1 from fleet_q.leader_terms
      where proved_at > pg_postmaster_start_time() + ${1.4 * DEAD_AFTER_MS} * interval '1 ms'`
    return rows.length > 0
  })

async function outage(way: Way, atLeastMs: number) {
  const callers = startCallers(way)
  await until('steps to run everywhere', async () => {
    const rows = await server.sql()`select distinct pod_id from fleet_q.claims`
    return rows.length === pods.length && callers.answers.accepted > 30
  })

  await server.awayWhile(way, async () => {
    const begun = performance.now()
    await allSee(AWAY)
    for (const { url } of pods) assertAway(await post(url, '/submit', { type: 'polite', args: {} }))
    // Longer than the threshold, where that is asked for: that is the case, not a wait for something else.
    await until('the outage to have been long enough', () => performance.now() - begun > atLeastMs)
    await allSee(AWAY)
  })

  await allSee(HERE)
  for (const { url } of pods) {
    const reply = await post(url, '/submit', { type: 'polite', args: { file: file.path, n: -1 } })
    assert.equal(reply.status, 201, JSON.stringify(reply.body))
  }
  await leaderHasLooked()
  await callers.stop()
  assert.ok(callers.answers.away > 0, 'no caller met the outage')

  const sql = server.sql()
  await allSettled(sql)
  await assertSound(sql)
  const all = await lives(sql)
  const byId = new Map(all.map((life) => [life.step_id, life]))
  const ends = new Set(
    file
      .lines()
      .filter((line) => line.startsWith('end '))
      .map((line) => line.split(' ')[1]),
  )
  for (const { id, n } of callers.accepted) {
    const life = byId.get(id)
    assert.ok(life, `${id} was accepted and is lost`)
    assert.equal(life.status, 'completed', JSON.stringify(life))
    assert.equal(life.result?.['n'], n)
    // Let go by a pod that could not report, or handed in late: neither costs an attempt.
    assert.equal(life.attempt, 1, JSON.stringify(life))
    assert.ok(ends.has(id), `${id} is completed and no handler has ended`)
  }
  const [keys] = await sql<{ n: number; steps: number }[]>`
    select count(*)::int as n, sum(cardinality(step_ids))::int as steps from fleet_q.idempotency_keys
    where key like ${`${way} %`}`
  assert.deepEqual(keys, { n: callers.accepted.length, steps: callers.accepted.length })

  const rows = await sql<{ status: string }[]>`select status from fleet_q.pods order by id`
  assert.deepEqual(
    rows.map(({ status }) => status),
    ['live', 'live', 'live'],
  )
  assert.deepEqual(ended, [])
}

test('Postgres is stopped, for longer than a pod may be silent: no step is lost, no pod ends or is declared dead', () =>
  outage('SIGINT', DEAD_AFTER_MS * 1.6))

test('Postgres drops all its clients at once and comes back: no step is lost, no pod ends or is declared dead', () =>
  outage('SIGQUIT', 0))

test('Postgres is killed, and recovers from its log: no step is lost, no pod ends or is declared dead', () =>
  outage('SIGKILL', DEAD_AFTER_MS * 1.6))
