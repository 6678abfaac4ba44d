import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as fc from 'fast-check'
import postgres from 'postgres'
import { z } from 'zod'
import { defineStep } from '../../src/step/handler.ts'
import { parsePublicId, publicId } from '../../src/step/step.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { get, post, submit } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

const db = await testDatabase()
const { sql } = db
let letGo: () => void = () => {}
const released = new Promise<void>((resolve) => (letGo = resolve))
atEnd(() => letGo())
const pod = await startTestPod(db.url, [
  defineStep('hello', { input: z.object({ name: z.string().default('nobody') }) }, ({ name }) => ({
    hello: name,
  })),
  defineStep('waits', {}, () => released),
  defineStep(
    'stops',
    {},
    (_, ctx) => new Promise((resolve) => ctx.signal.addEventListener('abort', resolve)),
  ),
  defineStep('breaks', {}, () => {
    throw new TypeError('no luck')
  }),
  defineStep('again', { backoff: { strategy: 'fixed', base_ms: 3_600_000, jitter: 0 } }, () => {
    throw new TypeError('not yet')
  }),
])

interface Told {
  step_id: string
  key: string
  type: string
  priority: number
  lane_key: string
  status: string
  tray: string
  attempt: number | null
  max_retries: number
  pod_id: string | null
  created_at: Date
  due_at: Date | null
  settled_at: Date | null
  error: string | null
}

/** What the view says of a step, looked up as its comment says. */
async function told(id: string): Promise<Told | undefined> {
  const [row] = await sql<Told[]>`select * from fleet_q.step_status where key = fleet_q.step_key(${id})`
  return row
}

const settled = (id: string) =>
  until(`step ${id} to settle`, async () => {
    const { body } = await get(pod.url, `/status/${id}`)
    return body['tray'] === 'settled' && body
  })

const tally = async () => {
  const [row] = await sql<{ steps: number; ready: number; later: number }[]>`
    select (select count(*) from fleet_q.steps)::int as steps, (select count(*) from fleet_q.ready)::int as ready,
      (select count(*) from fleet_q.later)::int as later`
  return row
}

/** The one argument that is wrong; everything else as the defaults have it. */
const submitWith = (name: string, value: string) =>
  sql.unsafe(`select fleet_q.submit(${name === 'type' ? '' : "'hello', "}${name} => ${value})`)

const refused = (name: string, value: string, sentence: RegExp) =>
  assert.rejects(submitWith(name, value), (error: { code?: string; message: string }) => {
    assert.equal(error.code, '22023')
    assert.match(error.message, sentence)
    return true
  })

test('a step submitted in a transaction that rolls back was never there', async () => {
  const before = await tally()
  let id = ''
  await assert.rejects(
    sql.begin(async (tx) => {
      const [row] = await tx<{ id: string }[]>`select fleet_q.submit('hello', '{"name":"ghost"}') as id`
      id = row?.id ?? ''
      throw new Error('changed my mind')
    }),
    /changed my mind/,
  )
  assert.match(id, /^step_\d{14}_/)
  assert.deepEqual(await tally(), before)
  assert.equal((await get(pod.url, `/status/${id}`)).status, 404)
})

test('a step submitted beside a row of the user is run by a pod once both are committed', async () => {
  await sql`create table orders (id int primary key, step text)`
  await sql.begin(async (tx) => {
    await tx`insert into orders values (1, fleet_q.submit('hello', '{"name":"Ada"}', tags => '{a,b}'))`
    const [seen] = await sql`select from orders`
    assert.equal(seen, undefined, 'nobody sees it before the commit')
  })
  const [order] = await sql<{ step: string }[]>`select step from orders where id = 1`
  const status = await settled(order?.step ?? '')
  assert.equal(status['status'], 'completed')
  assert.deepEqual(status['result'], { hello: 'Ada' })
  assert.deepEqual(status['tags'], ['a', 'b'])
})

test('a type that no handler could have is refused with a sentence, and nothing is written', async () => {
  const before = await tally()
  await refused('type', "'no spaces please'", /'no spaces please' is not a type: it must be 1 to 200 letters/)
  await refused('type', "' hello'", /' hello' is not a type/)
  await refused('type', "repeat('t', 201)", /is not a type/)
  await refused('type', "''", /'' is not a type/)
  await refused('type', 'null', /NULL is not a type/)
  assert.deepEqual(await tally(), before)
})

test('a priority, a count of retries or a timeout out of range is refused, and its ends are not', async () => {
  await refused('priority', '1001', /priority 1001 is not between -1000 and 1000/)
  await refused('priority', '-1001', /priority -1001/)
  await refused('max_retries', '1001', /max_retries 1001/)
  await refused('max_retries', '-1', /max_retries -1/)
  await refused('timeout_seconds', '0', /timeout_seconds 0/)
  await refused('key', "repeat('k', 201)", /a key has at most 200 characters, this one has 201/)
  for (const end of ['1000', '-1000']) await submitWith('priority', end)
})

test('args and metadata that are no object are refused by what they are', async () => {
  await refused('args', "'[1]'", /args must be an object, not array/)
  await refused('args', "'null'", /args must be an object, not null/)
  await refused('args', "'7'", /args must be an object, not number/)
  await refused('metadata', '\'"text"\'', /metadata must be an object, not string/)
})

test('run_at in the future puts a step into later, and in the past into its lane at once', async () => {
  const [row] = await sql<{ future: string; past: string }[]>`
    select fleet_q.submit('unhandled', run_at => now() + interval '1 hour') as future,
      fleet_q.submit('unhandled', run_at => now() - interval '1 hour') as past`
  const future = await told(row?.future ?? '')
  assert.equal(future?.tray, 'later')
  const ahead = (future?.due_at?.getTime() ?? 0) - (future?.created_at.getTime() ?? 0)
  assert.equal(Math.round(ahead / 1000), 3600)
  assert.equal((await told(row?.past ?? ''))?.tray, 'ready')
})

test('type, priority and key choose the lane; the same three share one', async () => {
  const submitted = await sql<{ id: string }[]>`
    select fleet_q.step_key(fleet_q.submit('lane', priority => priority, key => key)) as id
    from (values (7, 'a'), (7, 'a'), (7, 'b'), (8, 'a'), (null, null)) as s (priority, key)`
  const lanes = await sql<{ type: string; priority: number; key: string; steps: string }[]>`
    select lanes.type, lanes.priority, lanes.key, count(*) as steps
    from fleet_q.steps join fleet_q.lanes on lanes.id = steps.lane_id
    where steps.id = any (${submitted.map((row) => row.id)}::bigint[])
    group by lanes.id order by priority, key`
  assert.deepEqual(
    lanes.map((lane) => ({ ...lane })),
    [
      { type: 'lane', priority: 0, key: '', steps: '1' },
      { type: 'lane', priority: 7, key: 'a', steps: '2' },
      { type: 'lane', priority: 7, key: 'b', steps: '1' },
      { type: 'lane', priority: 8, key: 'a', steps: '1' },
    ],
  )
})

/** Of a pod that has just worked; after that it rests for its poll. */
const LONGEST_REST_MS = 2500

test('wake() rings a pod that would not look for a minute', async () => {
  const own = await testDatabase()
  // A beat looks for work too: it is as far away as the poll.
  const sleeper = await startTestPod(own.url, [defineStep('hello', {}, () => ({}))], {
    FLEET_Q_POLL_SECONDS: '60',
    FLEET_Q_HEARTBEAT_SECONDS: '20',
    FLEET_Q_DEAD_AFTER_SECONDS: '60',
  })
  const statusOf = async (id: string) => (await get(sleeper.url, `/status/${id}`)).body['status']
  // Its rounds after the start, and the sweep two seconds after its last step, find one without being rung. Then it
  // sleeps, and a step is left lying.
  const lying = await until('the pod to sleep', async () => {
    const [row] = await own.sql<{ id: string }[]>`select fleet_q.submit('hello') as id`
    const id = row?.id ?? ''
    const since = performance.now()
    while ((await statusOf(id)) === 'pending') {
      if (performance.now() - since > LONGEST_REST_MS) return id
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    return undefined
  })
  await own.sql`select fleet_q.wake()`
  await until(
    'the step that was left lying to run',
    async () => (await statusOf(lying)) === 'completed',
    5000,
  )
})

const agree = async (
  id: string,
  state: { tray: string; status: string },
  attempts: { view: number | null },
) => {
  const view = await told(id)
  const { body } = await get(pod.url, `/status/${id}`)
  assert.ok(view, `the view does not know ${id}`)
  assert.deepEqual({ tray: view.tray, status: view.status }, state)
  assert.equal(view.attempt, attempts.view)
  assert.deepEqual(
    {
      step_id: view.step_id,
      tray: view.tray,
      status: view.status,
      claimed_by: view.pod_id,
      priority: view.priority,
      max_retries: view.max_retries,
      retry_count: Math.max((view.attempt ?? 1) - 1, 0),
      created_ts: view.created_at.toISOString(),
      key: view.lane_key === '' ? null : view.lane_key,
    },
    Object.fromEntries(
      [
        'step_id',
        'tray',
        'status',
        'claimed_by',
        'priority',
        'max_retries',
        'retry_count',
        'created_ts',
        'key',
      ].map((field) => [field, body[field]]),
    ),
  )
  const error = body['error'] as { message: string } | null
  // The API also shows what the attempt before died of; the view tells the end.
  if (view.tray === 'settled') {
    assert.equal(view.error, error?.message ?? null)
    assert.equal(view.settled_at?.toISOString(), body['last_update_ts'])
  }
  if (view.tray === 'later') assert.equal(view.due_at?.toISOString(), body['run_at'])
  const [row] = await sql<
    { type: string }[]
  >`select type from fleet_q.step_status where step_id = ${id} limit 1`
  assert.equal(row?.type, (body['payload'] as { type: string }).type)
}

test('for a step in each state, the view says what the API says', async () => {
  const ready = await submit(pod.url, { type: 'unhandled', priority: 3, key: 'k' })
  await agree(ready, { tray: 'ready', status: 'pending' }, { view: null })
  const later = await submit(pod.url, { type: 'hello', delay_seconds: 3600 })
  await agree(later, { tray: 'later', status: 'pending' }, { view: 1 })
  const held = await submit(pod.url, { type: 'waits' })
  await until('a pod to hold it', async () => (await told(held))?.tray === 'claimed')
  await agree(held, { tray: 'claimed', status: 'claimed' }, { view: 1 })
  const done = await submit(pod.url, { type: 'hello' })
  await settled(done)
  await agree(done, { tray: 'settled', status: 'completed' }, { view: 1 })
  const failed = await submit(pod.url, { type: 'breaks', max_retries: 0 })
  await settled(failed)
  await agree(failed, { tray: 'settled', status: 'failed' }, { view: 1 })
  const retried = await submit(pod.url, { type: 'again' })
  await until('its second attempt to wait', async () => (await told(retried))?.tray === 'later')
  await agree(retried, { tray: 'later', status: 'pending' }, { view: 2 })
  const [expired] = await sql<{ id: string }[]>`
    select fleet_q.submit('hello', expires_at => now() - interval '1 minute') as id`
  await settled(expired?.id ?? '')
  await agree(expired?.id ?? '', { tray: 'settled', status: 'skipped' }, { view: 1 })
  const cancelled = await submit(pod.url, { type: 'unhandled' })
  await post(pod.url, `/steps/${cancelled}/cancel`, {})
  await agree(cancelled, { tray: 'settled', status: 'cancelled' }, { view: 0 })
  // Cancelled while a pod holds it, and its claim stands until the others of it are done.
  const stopped = await submit(pod.url, { type: 'stops' })
  await until('a pod to hold it', async () => (await told(stopped))?.tray === 'claimed')
  await post(pod.url, `/steps/${stopped}/cancel`, {})
  const view = await told(stopped)
  assert.deepEqual([view?.tray, view?.status], ['settled', 'cancelled'])
})

const KEY = fc.bigInt({ min: 1n, max: 2n ** 63n - 1n })
const SALT = fc.bigInt({ min: 0n, max: 2n ** 60n - 1n })
const BORN = fc.date({
  min: new Date('1970-01-01'),
  max: new Date('9999-12-31T23:59:59.999Z'),
  noInvalidDate: true,
})

test('SQL and TypeScript spell the same public id, and both find its key again', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(KEY, SALT, BORN), { minLength: 1, maxLength: 50 }), async (steps) => {
      const rows = await sql<{ spelled: string; key: string | null }[]>`
        select spelled, fleet_q.step_key(spelled) as key
        from unnest(
          ${steps.map(([id]) => id.toString())}::bigint[], ${steps.map(([, salt]) => salt.toString())}::bigint[],
          ${steps.map(([, , born]) => born.toISOString())}::timestamptz[]
        ) with ordinality as s (id, salt, born, place)
        cross join lateral fleet_q.step_public_id(s.id, s.salt, s.born) as spelled
        order by place`
      for (const [place, [id, salt, createdAt]] of steps.entries()) {
        const step = { id: id.toString(), salt: salt.toString() }
        const spelled = publicId({ ...step, createdAt })
        assert.equal(rows[place]?.spelled, spelled)
        assert.deepEqual(parsePublicId(spelled), step)
        assert.equal(rows[place]?.key, step.id)
      }
    }),
    {
      numRuns: 40,
      examples: [
        [[[1n, 0n, new Date(0)]]],
        [[[2n ** 63n - 1n, 2n ** 60n - 1n, new Date('9999-12-31T23:59:59.999Z')]]],
        [[[35n, 36n ** 11n, new Date('2024-02-29T23:59:59.999Z')]]],
        [[[36n, 36n ** 11n - 1n, new Date('2024-12-31T23:59:59.500Z')]]],
      ],
    },
  )
})

const WRONG = [
  '',
  'step_',
  'step_20240101000000_',
  `step_20240101000000_${'0'.repeat(12)}`,
  `step_20240101000000_${'A'.repeat(12)}1`,
  `step_20240101000000_${'0'.repeat(12)}${(2n ** 63n).toString(36)}`,
]

test('what cannot be the id of a step has no key, in SQL as in TypeScript', async () => {
  const wrong = fc.oneof(
    fc.string(),
    fc.constantFrom(...WRONG),
    fc
      .bigInt({ min: 2n ** 63n, max: 36n ** 13n - 1n })
      .map((key) => `step_20240101000000_${'0'.repeat(12)}${key.toString(36)}`),
    fc.stringMatching(/^step_\d{13}_[0-9a-z]{13,25}$/),
    fc.stringMatching(/^step_\d{14}_[0-9A-Z]{12}[A-Z]{1,5}$/),
    fc.stringMatching(/^step_\d{14}_[0-9a-z]{26,30}$/),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(wrong, { minLength: 1, maxLength: 30 }), async (texts) => {
      // A text in Postgres holds no zero byte.
      const plain = texts.map((text) => text.replaceAll('\0', ''))
      const rows = await sql<{ key: string | null }[]>`
        select fleet_q.step_key(text) as key from unnest(${plain}::text[]) with ordinality as t (text, place) order by place`
      assert.deepEqual(
        rows.map((row) => row.key),
        plain.map((text) => parsePublicId(text)?.id ?? null),
      )
    }),
    { numRuns: 60, examples: [[WRONG]] },
  )
})

/** The grants that sql/README.md gives a role, word for word. */
function grantsOf(role: string): string {
  const text = readFileSync(fileURLToPath(new URL('../../sql/README.md', import.meta.url)), 'utf8')
  const block = [...text.matchAll(/```sql\n([\s\S]*?)```/g)].find(([, body]) => body?.includes(`to ${role};`))
  if (!block?.[1]) throw new Error(`sql/README.md has no grants for ${role}`)
  return block[1]
}

/** A login with these grants and no others; gone when the file ends. */
async function roleWith(role: string, own = db) {
  const name = `${role}_${process.pid}_${Math.random().toString(36).slice(2, 8)}`
  await own.sql.unsafe(`create role ${name} login password 'secret'`)
  atEnd(async () => {
    await own.sql.unsafe(`drop owned by ${name}`)
    await own.sql.unsafe(`drop role ${name}`)
  })
  await own.sql.unsafe(grantsOf(role).replaceAll(role, name))
  const url = new URL(own.url)
  url.username = name
  url.password = 'secret'
  const login = postgres(url.href, { max: 2, onnotice: () => {} })
  atEnd(() => login.end({ timeout: 1 }))
  return { url: url.href, login }
}

const denied = (query: PromiseLike<unknown>) =>
  assert.rejects(
    async () => query,
    (error: { code?: string }) => error.code === '42501',
  )

test('a role with the grants of an application submits and rings, and can do no more', async () => {
  const { login } = await roleWith('shop')
  const [row] = await login<{ id: string }[]>`
    select fleet_q.submit('hello', '{"name":"shop"}', key => 'new', run_at => now() - interval '1 second') as id`
  await login`select fleet_q.submit('hello', run_at => now() + interval '1 day')`
  await login`select fleet_q.wake()`
  assert.deepEqual((await settled(row?.id ?? ''))['result'], { hello: 'shop' })
  const [seen] = await login`
    select status, tray from fleet_q.step_status where key = fleet_q.step_key(${row?.id ?? ''})`
  assert.deepEqual({ ...seen }, { status: 'completed', tray: 'settled' })
  await denied(login`delete from fleet_q.ready`)
  await denied(login`update fleet_q.steps set max_retries = 0`)
  await denied(login`delete from fleet_q.outcomes`)
  await denied(login`insert into fleet_q.outcomes (step_id, status, attempt) values (1, 'cancelled', 0)`)
})
