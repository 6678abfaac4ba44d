import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import postgres from 'postgres'
import type { Sql } from '../../src/db/connect.ts'
import { accede, resign } from '../../src/leader/leader.sql.ts'
import { beginCycle, finishCycle } from '../../src/recovery/recovery.sql.ts'
import { cancelSteps } from '../../src/step/cancel.sql.ts'
import { type ClaimedStep } from '../../src/step/claim.sql.ts'
import { exchange } from '../../src/step/exchange.sql.ts'
import { type Report } from '../../src/step/settle.sql.ts'
import { publicId } from '../../src/step/step.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase, type TestDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'
import { addLane, addPod, addSteps, againOf, failedOf, killPod, reportOf, want } from './arrange.ts'

const FOLDER = fileURLToPath(new URL('../../sql/inspect/', import.meta.url))
const PAGES = readdirSync(FOLDER).filter((file) => file.endsWith('.sql'))
const ROWS_MAX = 100

type Row = Record<string, unknown>
type Answer = Row[] & { columns?: unknown }

/** A session that cannot write: what a page answers, one list of rows for each question in it. */
function reader(db: TestDatabase, settings: Record<string, string> = {}) {
  const sql = postgres(db.url, {
    max: 1,
    onnotice: () => {},
    connection: { default_transaction_read_only: true, statement_timeout: 10_000, ...settings },
  })
  atEnd(() => sql.end({ timeout: 1 }))
  return async (page: string): Promise<Row[][]> => {
    const text = readFileSync(join(FOLDER, `${page}.sql`), 'utf8')
    // Several questions give a list of answers, one gives its rows; an answer without columns is a begin or a do.
    const answers = await sql.unsafe<Answer[] | Answer>(text).simple()
    const all = Array.isArray(answers[0]) ? (answers as Answer[]) : [answers as Answer]
    return all.filter(({ columns }) => columns !== undefined).map((rows) => [...rows])
  }
}

const empty = await testDatabase()
const full = await testDatabase()
const ask = reader(full)
const rowsOf = async (page: string, where: Row = {}): Promise<Row[]> => {
  const [rows = []] = await ask(page)
  return rows.filter((row) =>
    Object.entries(where).every(([name, value]) => String(row[name]) === String(value)),
  )
}
const only = async (page: string, where: Row): Promise<Row> => {
  const rows = await rowsOf(page, where)
  assert.equal(rows.length, 1, `${page} has ${rows.length} rows with ${JSON.stringify(where)}`)
  return rows[0] ?? {}
}

/** hh:mm:ss of so many seconds, and what a slow machine took meanwhile. */
function near(span: unknown, seconds: number) {
  const [h = 0, m = 0, s = 0] = String(span).split(':').map(Number)
  const told = h * 3600 + m * 60 + s
  assert.ok(told >= seconds && told < seconds + 20, `${String(span)} is not about ${seconds} s`)
}

/** Steps of one type, taken by a pod in one claim. */
async function claim(db: TestDatabase, pod: string, type: string, count: number): Promise<ClaimedStep[]> {
  await addSteps(db.sql, await addLane(db.sql, { type }), count)
  const taken = await db.database.run((sql: Sql) =>
    exchange(sql, want(pod, { types: [type], limit: count }), [], []),
  )
  const steps = taken.filter((row) => row.kind === 'claimed')
  assert.equal(steps.length, count)
  return steps
}

const handIn = (db: TestDatabase, pod: string, reports: Report[], ended: string[] = []) =>
  db.database.run((sql: Sql) => exchange(sql, want(pod, { types: [] }), reports, ended))

const idOf = (step: ClaimedStep | undefined) =>
  step ? publicId({ id: step.step_id, salt: step.salt, createdAt: new Date(step.created_at) }) : ''

const nameOf = async (pod: string) => {
  const [row] = await full.sql<{ public_id: string }[]>`select public_id from fleet_q.pods where id = ${pod}`
  return row?.public_id ?? ''
}

/** A fleet after a bad night: steps in every tray and of every end, pods of every kind, terms and cycles. */
const pods = {
  busy: await addPod(full.sql, ['mail', 'report', 'bill']),
  idle: await addPod(full.sql, ['mail']),
  silent: await addPod(full.sql, ['mail']),
  dead: await addPod(full.sql, ['mail']),
}
// What is claimed first is claimed for long.
const [long, stopping, again] = await claim(full, pods.busy, 'report', 3)
const [overdue] = await claim(full, pods.silent, 'mail', 1)
const orphans = await claim(full, pods.dead, 'bill', 2)
await full.database.run((sql: Sql) => cancelSteps(sql, [stopping?.step_id ?? ''], 'not wanted any more'))
if (again) await handIn(full, pods.busy, [againOf(again, 0)])
// Out of the front again, and into a delay.
const [retried] = await claim(full, pods.busy, 'mail', 1)
if (retried) await handIn(full, pods.busy, [againOf(retried, 3_600_000)], [retried.claim_id])
await full.database.run((sql: Sql) => accede(sql, pods.busy))
await full.database.run((sql: Sql) => resign(sql, '1', 'its round hung or failed'))
await full.travel('10 minutes')
await full.sql`update fleet_q.pods set beat_at = fleet_q.clock() where id in (${pods.busy}, ${pods.idle})`
await full.sql`update fleet_q.pods set dead_after_ms = 15000`
await killPod(full.sql, pods.dead)
await full.sql`update fleet_q.pods set benched_until = fleet_q.clock() + interval '1 minute' where id = ${pods.busy}`
await full.database.run((sql: Sql) => accede(sql, pods.idle))

const ended = await claim(full, pods.busy, 'bill', 4)
await handIn(
  full,
  pods.busy,
  ended.map((step, n) => (n === 0 ? reportOf(step) : failedOf(step, n === 3 ? { ended: 'timeout' } : {}))),
  [...new Set(ended.map((step) => step.claim_id))],
)
await full.sql`select fleet_q.submit('mail', priority => 5), fleet_q.submit('mail', priority => 5, key => 'a')`
await full.sql`select fleet_q.submit('nobody'), fleet_q.submit('mail', run_at => fleet_q.clock() + interval '1 hour')`
await full.sql`insert into fleet_q.pauses (key) values ('a')`
await full.sql`insert into fleet_q.limits (type, max_running) values ('nobody', 1)`
const [cancelled] = await addSteps(full.sql, await addLane(full.sql, { type: 'cancelled' }), 1)
await full.database.run((sql: Sql) => cancelSteps(sql, [cancelled ?? ''], 'before it began'))
await full.travel('30 seconds')
await full.sql`update fleet_q.pods set beat_at = fleet_q.clock() where id in (${pods.busy}, ${pods.idle})`

const [cycle] = await full.database.run((sql: Sql) => beginCycle(sql, pods.idle, '2', false))
await full.database.run((sql: Sql) =>
  finishCycle(sql, cycle?.id ?? '', {
    durationMs: 12,
    deadPods: ['p1', 'p2', 'p3', 'p4', 'p5', 'p6', 'p7'],
    orphaned: 3,
    requeued: 2,
    terminal: 1,
    requeuedSteps: [idOf(long)],
    terminalSteps: [],
    error: null,
  }),
)
await full.database.run((sql: Sql) => beginCycle(sql, pods.idle, '2', true))

test('every page opens with what it answers, and bounds what it prints', () => {
  assert.ok(PAGES.length >= 9)
  for (const page of PAGES) {
    const text = readFileSync(join(FOLDER, page), 'utf8')
    assert.match(
      text,
      /^-- [^\n]*\?\n-- /,
      `${page} does not begin with its question and how to read the answer`,
    )
    const statements = text.replaceAll(/^--.*$/gm, '').split(/;$/m)
    for (const statement of statements
      .map((each) => each.trim())
      .filter((each) => /^(?:select|with)/.test(each)))
      assert.match(statement, /\nlimit \d+$/, `${page} does not bound its output`)
    if (text.includes('\nfetch all')) assert.match(text, /limit 30\n/, `${page} does not bound its output`)
    assert.doesNotMatch(text, /^\\/m, `${page} needs psql; a page is plain SQL`)
  }
})

test('every page answers on an empty and on a filled database, in a session that cannot write', async () => {
  for (const db of [empty, full]) {
    const read = reader(db)
    for (const page of PAGES) {
      const answers = await read(page.replace('.sql', ''))
      assert.ok(answers.length > 0, `${page} asks nothing`)
      for (const rows of answers) assert.ok(rows.length <= ROWS_MAX, `${page} prints ${rows.length} rows`)
    }
  }
})

test('an empty queue has nothing stuck, held, waiting, given up or in breach', async () => {
  const read = reader(empty)
  const quiet = [
    'stuck-steps',
    'who-holds-what',
    'queue-depth',
    'leader-history',
    'recovery-history',
    'dead-letters',
    'trays',
  ]
  for (const page of quiet) assert.deepEqual(await read(page), [[]], page)
})

test('steps that were claimed long ago are named with their pod, its silence and what is wrong', async () => {
  const [first] = await rowsOf('stuck-steps')
  assert.equal(first?.['step_id'], idOf(long), 'the longest claimed comes first')
  const healthy = await only('stuck-steps', { step_id: idOf(long) })
  assert.equal(healthy['why'], 'its pod is heard of')
  near(healthy['taken'], 630)
  near(healthy['silent'], 0)
  assert.equal(healthy['pod'], await nameOf(pods.busy))
  assert.equal((await only('stuck-steps', { step_id: idOf(stopping) }))['why'], 'stopping')
  const unheard = await only('stuck-steps', { step_id: idOf(overdue) })
  assert.equal(unheard['why'], 'its pod is silent')
  near(unheard['silent'], 630)
  assert.equal((await only('stuck-steps', { step_id: idOf(orphans[0]) }))['why'], 'its pod ended')
  assert.deepEqual(await rowsOf('stuck-steps', { step_id: idOf(again) }), [], 'handed in: held no more')
  assert.equal((await rowsOf('stuck-steps')).length, 5, 'what settled or was retried is not stuck')
})

test('a step over its own timeout is told apart from one that is just long', async () => {
  await full.sql`update fleet_q.steps set timeout_ms = 60000 where id = ${long?.step_id ?? ''}`
  const row = await only('stuck-steps', { step_id: idOf(long) })
  assert.equal(row['why'], 'over its timeout')
  assert.equal(row['timeout'], '00:01:00')
})

test('what was claimed just now is not stuck', async () => {
  const fresh = await claim(full, pods.idle, 'fresh', 1)
  assert.deepEqual(await rowsOf('stuck-steps', { step_id: idOf(fresh[0]) }), [])
  await handIn(
    full,
    pods.idle,
    fresh.map((step) => reportOf(step)),
    [fresh[0]?.claim_id ?? ''],
  )
})

test('each pod is listed with what it holds by type, and a living one that holds nothing with nothing', async () => {
  const busy = await only('who-holds-what', { pod: await nameOf(pods.busy) })
  // The cancelled one and the one that was handed in are not held.
  assert.deepEqual([busy['type'], busy['held']], ['report', '1'])
  near(busy['oldest_taken'], 630)
  const dead = await only('who-holds-what', { pod: await nameOf(pods.dead) })
  assert.deepEqual([dead['type'], dead['held'], dead['pod_is']], ['bill', '2', 'dead'])
  const idle = await only('who-holds-what', { pod: await nameOf(pods.idle) })
  assert.deepEqual([idle['type'], idle['held']], [null, '0'])
  const silent = await only('who-holds-what', { pod: await nameOf(pods.silent) })
  assert.ok(String(silent['silent']) > String(silent['dead_after']))
})

test('what waits is counted by type and priority, with the oldest, pauses, limits and who could take it', async () => {
  const [first] = await rowsOf('queue-depth')
  assert.equal(first?.['priority'], 5, 'the most urgent first')
  const urgent = await only('queue-depth', { type: 'mail', priority: 5 })
  assert.deepEqual(
    [urgent['lanes'], urgent['ready'], urgent['paused'], urgent['pods'], urgent['exact']],
    ['2', '2', '1', '3', true],
  )
  near(urgent['oldest'], 30)
  const later = await only('queue-depth', { type: 'mail', priority: 0 })
  assert.deepEqual([later['ready'], later['later'], later['overdue']], ['0', '2', '0'])
  const report = await only('queue-depth', { type: 'report' })
  assert.equal(report['ready'], '1')
  near(report['oldest'], 630)
  const nobody = await only('queue-depth', { type: 'nobody' })
  assert.deepEqual([nobody['pods'], nobody['limited']], ['0', true])
  assert.deepEqual(await rowsOf('queue-depth', { type: 'cancelled' }), [], 'a cancelled step does not wait')
})

test('what is due and still lies in later is overdue', async () => {
  await full.sql`
    update fleet_q.later set due_at = fleet_q.clock() - interval '1 minute' where step_id = ${retried?.step_id ?? ''}`
  const later = await only('queue-depth', { type: 'mail', priority: 0 })
  assert.deepEqual([later['later'], later['overdue']], ['2', '1'])
  assert.match(String(later['next_due_in']), /^-00:01:/)
})

test('the open term comes first, and an ended one says why and how long its pod is benched', async () => {
  const [open, before] = await rowsOf('leader-history')
  assert.deepEqual([open?.['pod'], open?.['ended']], [await nameOf(pods.idle), null])
  near(open?.['lasted'], 30)
  assert.deepEqual(
    [before?.['pod'], before?.['ended_why']],
    [await nameOf(pods.busy), 'its round hung or failed'],
  )
  assert.ok(before?.['benched'] instanceof Date)
})

test('the cycle that is under way comes first, and a finished one tells whom it buried and what came back', async () => {
  const [running, done] = await rowsOf('recovery-history')
  assert.deepEqual([running?.['finished'], running?.['forced']], [null, true])
  assert.equal(done?.['dead_pods'], 'p1, p2, p3, p4, p5 and 2 more')
  assert.deepEqual(
    [done?.['took'], done?.['orphaned'], done?.['requeued'], done?.['terminal'], done?.['sample']],
    [12, 3, 2, 1, idOf(long)],
  )
})

test('dead letters are grouped by type, reason and error, each group with its newest step', async () => {
  const exhausted = await only('dead-letters', { type: 'bill', reason: 'exhausted' })
  assert.deepEqual([exhausted['steps'], exhausted['message']], ['2', 'no'])
  assert.equal(exhausted['newest_step'], idOf(ended[2]))
  const timeout = await only('dead-letters', { reason: 'timeout' })
  assert.equal(timeout['newest_step'], idOf(ended[3]))
})

test('a fleet after a bad night has no step in breach, nor one that was cancelled in its lane', async () => {
  assert.deepEqual(await rowsOf('trays'), [])
})

const breaches: {
  name: string
  breach: string
  plant: (sql: Sql, id: string, lane: number) => Promise<unknown>
}[] = [
  {
    name: 'lies nowhere',
    breach: 'lost',
    plant: (sql, id) => sql`delete from fleet_q.ready where step_id = ${id}`,
  },
  {
    name: 'lies in ready twice',
    breach: 'in several trays',
    plant: (sql, id, lane) =>
      sql`insert into fleet_q.ready (lane_id, step_id, attempt) values (${lane}, ${id}, 1)`,
  },
  {
    name: 'lies in ready and later',
    breach: 'in several trays',
    plant: (sql, id, lane) => sql`
      insert into fleet_q.later (step_id, lane_id, due_at, attempt, why)
      values (${id}, ${lane}, fleet_q.clock(), 1, 'delay')`,
  },
  {
    name: 'lies in ready while a pod holds it',
    breach: 'in several trays',
    plant: (sql, id) => sql`
      insert into fleet_q.claims (pod_id, step_ids, attempts) values (${pods.busy}, array[${id}::bigint], '{1}')`,
  },
  {
    name: 'is completed and lies in ready',
    breach: 'settled, and in a tray',
    plant: (sql, id) => sql`
      insert into fleet_q.outcomes (step_id, status, attempt, claim_id, pod_id)
      values (${id}, 'completed', 1, 1, ${pods.busy})`,
  },
  {
    name: 'is completed and has no letter',
    breach: 'without its letter',
    plant: async (sql, id) => {
      await sql`insert into fleet_q.outcomes (step_id, status, attempt) values (${id}, 'failed', 1)`
      await sql`delete from fleet_q.ready where step_id = ${id}`
      await sql`delete from fleet_q.steps where id = ${id}`
    },
  },
]

for (const { name, breach, plant } of breaches)
  test(`a step that ${name} is a breach`, async () => {
    const lane = await addLane(full.sql, { type: 'planted' })
    const [id = ''] = await addSteps(full.sql, lane, 1)
    await full.database.run((sql: Sql) => plant(sql, id, lane))
    const rows = await rowsOf('trays')
    assert.deepEqual(
      rows.map((row) => [row['key'], row['breach']]),
      [[id, breach]],
    )
    for (const table of ['ready', 'later', 'outcomes'])
      await full.sql`delete from ${full.sql(`fleet_q.${table}`)} where step_id = ${id}`
    await full.sql`delete from fleet_q.claims where step_ids = array[${id}::bigint]`
    await full.sql`delete from fleet_q.steps where id = ${id}`
    assert.deepEqual(await rowsOf('trays'), [])
  })

test('a step whose claim was handed in for another attempt, and lies nowhere, is lost', async () => {
  const [step] = await claim(full, pods.idle, 'planted', 2)
  if (!step) throw new Error('nothing was claimed')
  await handIn(full, pods.idle, [againOf(step, 1000)])
  assert.deepEqual(await rowsOf('trays'), [])
  await full.sql`delete from fleet_q.later where step_id = ${step.step_id}`
  assert.equal((await only('trays', { key: step.step_id }))['breach'], 'lost')
  await full.sql`
    insert into fleet_q.later (step_id, lane_id, due_at, attempt, why)
    values (${step.step_id}, ${step.lane_id}, fleet_q.clock(), 2, 'retry')`
})

test('the tables are listed with their dead rows, and the session that holds the horizon back with its pid', async () => {
  const other = postgres(full.url, {
    max: 1,
    onnotice: () => {},
    connection: { application_name: 'a long report' },
  })
  atEnd(() => other.end({ timeout: 1 }))
  let pid = 0
  let letGo: () => void = () => {}
  const released = new Promise<void>((resolve) => (letGo = resolve))
  const report = other.begin('isolation level repeatable read', async (tx) => {
    const [row] = await tx<{ pid: number }[]>`select pg_backend_pid() as pid, count(*) from fleet_q.steps`
    pid = row?.pid ?? 0
    await released
  })
  await until('the report to take its snapshot', () => pid > 0)
  const [tables = [], holders = []] = await ask('bloat-and-horizon')
  letGo()
  await report
  const names = tables.map((row) => row['table'])
  for (const tray of ['ready', 'later', 'claims', 'outcomes']) assert.ok(names.includes(tray), tray)
  const holder = holders.find((row) => row['pid'] === pid)
  assert.equal(holder?.['state'], 'idle in transaction')
  assert.match(String(holder?.['who']), /a long report/)
  assert.match(String(holder?.['doing']), /from fleet_q.steps/)
  const [, after = []] = await ask('bloat-and-horizon')
  assert.ok(!after.some((row) => row['pid'] === pid), 'gone with its transaction')
})

test('without pg_stat_statements the page of slow statements says how to get it', async () => {
  const [[row] = []] = await reader(empty)('slow-statements')
  assert.match(String(row?.['note']), /create extension pg_stat_statements/)
})

test('with pg_stat_statements our statements are summed by their names, the dearest first', async () => {
  const db = await testDatabase()
  // Its shape, and the setting that its library brings: a server for tests does not load it.
  await db.sql`
    create view pg_stat_statements as
    select (select oid from pg_database where datname = current_database()) as dbid, s.*
    from (values
      ('with /* step.exchange */ x', 10::bigint, 20::float8, 5::float8, 100::bigint, 30::bigint, 20::bigint),
      ('with /* step.exchange */ y', 10, 10, 8, 0, 0, 0),
      ('update /* pod.beat */ z', 5, 5, 1, 5, 5, 0),
      ('select of somebody else', 1, 65, 65, 1, 1, 1)
    ) as s (query, calls, total_exec_time, max_exec_time, rows, shared_blks_hit, shared_blks_read)`
  const [rows = []] = await reader(db, { 'pg_stat_statements.max': '5000' })('slow-statements')
  assert.deepEqual(rows, [
    {
      name: 'step.exchange',
      calls: '20',
      total_ms: '30',
      share: '30.0',
      mean: '1.500',
      max: '8.0',
      rows_a_call: '5.0',
      blocks: '2.5',
    },
    {
      name: 'pod.beat',
      calls: '5',
      total_ms: '5',
      share: '5.0',
      mean: '1.000',
      max: '1.0',
      rows_a_call: '1.0',
      blocks: '1.0',
    },
  ])
})
