import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, type Database } from '../../src/db/connect.ts'
import { assertSound } from '../recovery/fleet.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase, type TestDatabase } from '../support/database.ts'
import { get, post, submit } from '../support/http.ts'
import { findPgBouncer, startPgBouncer, type PgBouncer } from '../support/pgbouncer.ts'
import { startPodProcess, type PodProcess } from '../support/processes.ts'
import { until } from '../support/until.ts'

/** Pods behind PgBouncer in transaction mode: no LISTEN, no prepared statements, another session each time. */

/** Fewer than the pods have of their own, so that they do share. */
const SERVER_CONNECTIONS = 8
const ENV = { FLEET_Q_DATABASE_POOLER: '1', FLEET_Q_MAX_PARALLELISM: '5' }

const found = findPgBouncer()
if (found) await behind()
else
  test('pgbouncer is not installed: not checked (apt-get install pgbouncer, and every claim about it is)', () => {})

async function behind() {
  const db = await testDatabase()
  await db.sql`create table public.ledger (step_id text, attempt int, n int)`
  const bouncer = await startPgBouncer(db.url, SERVER_CONNECTIONS)
  const pods = await Promise.all([1, 2, 3].map(() => startPodProcess(bouncer.url, ENV)))
  define(db, bouncer, pods)
}

function define(db: TestDatabase, bouncer: PgBouncer, pods: PodProcess[]) {
  const pod = (n: number) => {
    const chosen = pods[n]
    assert.ok(chosen)
    return chosen
  }
  const statusOf = async (id: string, n = 0) => (await get(pod(n).url, `/status/${id}`)).body
  const settled = (id: string, n = 0) =>
    until(`${id} to settle`, async () => {
      const body = await statusOf(id, n)
      return body['tray'] === 'settled' && body
    })
  const endings = (body: Record<string, unknown>) =>
    (body['attempts'] as { ended: string | null }[]).map(({ ended }) => ended)

  test(`what we talk to is PgBouncer in transaction mode (${bouncer.version})`, async () => {
    const open = (pooler: boolean) => {
      const database = connect({ url: bouncer.url, name: 'pgbouncer test', max: 1, pooler, deadlineMs: 5000 })
      atEnd(() => database.close())
      return database
    }
    // The settings of a session that we send otherwise are what it refuses.
    await assert.rejects(
      open(false).run((sql) => sql`select 1`),
      /unsupported startup parameter/,
    )
    // By its name a transaction is known from one that a network has forgotten.
    const [named] = await open(true).run(
      (sql) => sql<{ name: string }[]>`select current_setting('application_name') as name`,
    )
    assert.equal(named?.name, 'pgbouncer test')
    // Two transactions at once cannot be in one session; the session after them may be either.
    const [one, two] = [open(true), open(true)]
    await one.begin(async (tx) => {
      await tx`set local application_name = 'held'`
      const [mine] = await tx`select pg_backend_pid() as pid`
      const [other] = await two.run((sql) => sql`select pg_backend_pid() as pid`)
      assert.notDeepEqual(mine, other)
    })
  })

  test('what is sent while another answer is awaited gets its own: no statement waits for one that went to nobody', async () => {
    // Many that share a few servers: one that is taken for free goes to another client at once.
    const many = Array.from({ length: 12 }, () =>
      connect({ url: bouncer.url, name: 'crowd', max: 1, pooler: true, deadlineMs: 5000 }),
    )
    atEnd(() => Promise.all(many.map((database) => database.close())))
    const ask = (database: Database, n: number) =>
      database.run((sql) => Promise.all([sql`select 1 as n`, sql`select ${n}::int as n`, sql`select 3 as n`]))
    await Promise.all(
      many.map(async (database) => {
        for (let n = 0; n < 300; n++)
          assert.deepEqual(
            (await ask(database, n)).map(([row]) => row?.['n']),
            [1, n, 3],
          )
      }),
    )
  })

  test('a thousand steps run on all pods, each once', async () => {
    const steps = Array.from({ length: 1000 }, (_, n) => ({ type: 'polite', args: { n, ms: 1 } }))
    const { status, body } = await post(pod(0).url, '/submit/batch', { steps })
    assert.equal(status, 201)
    await until('all of them to complete', async () => {
      const [row] = await db.sql<{ n: number }[]>`
        select count(*)::int as n from fleet_q.outcomes where status = 'completed'`
      return row?.n === (body['step_ids'] as string[]).length
    })
    const byPod = await db.sql`select pod_id, count(*) from fleet_q.outcomes group by pod_id`
    assert.equal(byPod.length, pods.length, 'not all pods took part')
    await assertSound(db.sql)
  })

  test('a step that fails is tried again, after its delay, to its last attempt', async () => {
    const failing = await submit(pod(1).url, {
      type: 'polite',
      args: { ms: 60_000 },
      timeout_seconds: 0.1,
      max_retries: 2,
      retry: { strategy: 'fixed', base_ms: 50 },
    })
    const end = await settled(failing)
    assert.equal(end['status'], 'failed')
    assert.equal((end['attempts'] as unknown[]).length, 3)
  })

  test('a running step is told of its cancel by the heartbeat, without notifications', async () => {
    const id = await submit(pod(0).url, { type: 'polite', args: { ms: 60_000 } })
    await until('it to run', async () => (await statusOf(id))['tray'] === 'claimed')
    assert.equal((await post(pod(2).url, `/steps/${id}/cancel`)).status, 200)
    assert.equal((await settled(id))['status'], 'cancelled')
    await until('its claim to end', async () => (await db.sql`select 1 from fleet_q.claims`).length === 0)
  })

  test('what handlers write through their transactions is there once, though they share sessions', async () => {
    const ids = await Promise.all(
      Array.from({ length: 30 }, (_, n) => submit(pod(n % 3).url, { type: 'ledger', args: { n, ms: 20 } })),
    )
    for (const id of ids) assert.equal((await settled(id))['status'], 'completed')
    const rows = await db.sql<{ step_id: string }[]>`select step_id from public.ledger`
    assert.deepEqual(rows.map((row) => row.step_id).toSorted(), ids.toSorted())
  })

  test('one idempotency key from twenty callers makes one step', async () => {
    const replies = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        post(pod(n % 3).url, '/submit', { type: 'polite', args: {} }, { 'idempotency-key': 'pooled' }),
      ),
    )
    assert.equal(replies.filter(({ status }) => status === 201).length, 1)
    assert.equal(replies.filter(({ status }) => status === 200).length, 19)
  })

  test('PgBouncer is killed and comes back: no pod ends, nobody is declared dead, submits are answered', async () => {
    await bouncer.kill()
    const reply = await post(pod(0).url, '/submit', { type: 'polite', args: {} })
    assert.equal(reply.status, 503)
    assert.equal(reply.body['error_type'], 'database_unavailable')
    await until('the pods to notice', async () => {
      const bodies = await Promise.all(pods.map(async (each) => (await get(each.url, '/health')).body))
      return bodies.every((body) => body['database'] === 'away')
    })
    await bouncer.start()
    const id = await until('a submit to be accepted', async () => {
      const { status, body } = await post(pod(0).url, '/submit', { type: 'polite', args: {} })
      return status === 201 && String(body['step_id'])
    })
    await settled(id)
    const statuses = await db.sql<{ status: string }[]>`select distinct status from fleet_q.pods`
    assert.deepEqual([...statuses], [{ status: 'live' }])
  })

  test('a killed pod is noticed, and what it held runs elsewhere', async () => {
    const id = await submit(pod(0).url, { type: 'polite', args: { ms: 60_000 } })
    const holder = await until('a pod to hold the step', async () => {
      const by = (await statusOf(id))['claimed_by']
      return pods.find((each) => each.id === by)
    })
    const other = pods.findIndex((each) => each.id !== holder.id)
    holder.signal('SIGKILL')
    await holder.exited
    const again = await until('it to run elsewhere', async () => {
      const body = await statusOf(id, other)
      return body['tray'] === 'claimed' && body['claimed_by'] !== holder.id && body
    })
    assert.deepEqual(endings(again), ['pod_died', null])
    assert.equal(again['retry_count'], 1)
    await post(pod(other).url, `/steps/${id}/cancel`)
    await until('every claim to end', async () => (await db.sql`select 1 from fleet_q.claims`).length === 0)
    await assertSound(db.sql)
  })
}
