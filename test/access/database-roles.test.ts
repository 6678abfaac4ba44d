import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import postgres from 'postgres'
import { connect } from '../../src/db/connect.ts'
import { migrate, readMigrations } from '../../src/db/migrate.ts'
import { createClient } from '../../src/client.ts'
import { defineStep, NonRetryableError } from '../../src/step/handler.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

/** The owner migrates, pods work, readers look: what each role of the database may do, and what it may not. */

const db = await testDatabase()
const suffix = Math.random().toString(36).slice(2, 8)
const APP = `fleet_app_${suffix}`
const READER = `fleet_reader_${suffix}`
for (const role of [APP, READER]) await db.sql.unsafe(`create role ${role} login password 'secret of a test'`)
await db.sql.unsafe(`select fleet_q.grant_app('${APP}'), fleet_q.grant_reader('${READER}')`)
atEnd(async () => {
  for (const role of [APP, READER]) await db.sql.unsafe(`drop owned by ${role}; drop role ${role}`)
})

function urlOf(role: string, url = db.url): string {
  const address = new URL(url)
  address.username = role
  address.password = 'secret of a test'
  return address.href
}

function sessionOf(role: string) {
  const sql = postgres(urlOf(role), { max: 1, onnotice: () => {} })
  atEnd(() => sql.end({ timeout: 1 }))
  return sql
}

const app = sessionOf(APP)
const reader = sessionOf(READER)

/** Every statement is refused for want of a right, and for nothing else. */
async function assertForbidden(sql: postgres.Sql, statements: string[]) {
  for (const statement of statements)
    await assert.rejects(
      sql.unsafe(statement),
      (error) => (error as { code?: string }).code === '42501',
      `it may: ${statement}`,
    )
}

suite('the role of pods', () => {
  test('does everything that a pod does: submit, run, retry, cancel, pause, limit, redrive, recover, forget', async () => {
    let failing = true
    const pod = await startTestPod(urlOf(APP), [
      defineStep('well', {}, async (_, ctx) => {
        ctx.log.info('a line')
        ctx.progress(50)
        const tx = await ctx.tx()
        await tx`select 1`
        return 'done'
      }),
      defineStep('fatal', {}, () => {
        if (failing) throw new NonRetryableError('not yet')
        return 'now'
      }),
    ])
    const client = createClient({ baseUrl: pod.url })
    await until('the pod to lead', async () => (await client.getLeader()).current_leader === pod.id)
    const { step_id } = await client.submitStep({ type: 'well', args: {}, idempotency_key: 'once' })
    assert.equal((await client.waitFor(step_id)).result, 'done')
    await until('its line to be written', async () => (await client.listLogs({ step_id })).logs.length === 1)
    const bad = await client.submitStep({
      type: 'fatal',
      args: {},
      unique: { key: 'u', on_conflict: 'reject' },
    })
    assert.equal((await client.waitFor(bad.step_id)).status, 'failed')
    failing = false
    await client.retryStep({ step_id: bad.step_id })
    assert.equal((await client.waitFor(bad.step_id)).result, 'now')
    const later = await client.submitStep({ type: 'well', args: {}, run_at: '2100-01-01T00:00:00Z' })
    await client.cancelStep({ step_id: later.step_id })
    await client.pause({ type: 'well' })
    await client.resume({ type: 'well' })
    await client.setLimit({ type: 'well', max_running: 1 })
    assert.equal((await client.runRecovery({ force: true })).status, 'completed')
    assert.match((await client.why({ step_id: later.step_id })).sentence, /cancelled/i)
    await client.getQueue()
    assert.equal((await fetch(`${pod.url}/metrics`)).status, 200)
    assert.equal((await app`select fleet_q.forget_audit('30 days', 10) as forgotten`)[0]?.['forgotten'], 0)
    const made = await client.createToken({ name: 'a', role: 'admin' })
    const admin = createClient({ baseUrl: pod.url, token: made.token })
    await admin.revokeToken({ token_id: made.token_id })
    await pod.stop()
  })

  test('makes, changes and empties no table, and touches nothing outside of its schema', async () => {
    await db.sql`create table public.shop (id int)`
    await assertForbidden(app, [
      'create table fleet_q.mine (id int)',
      'create schema mine',
      'drop table fleet_q.ready',
      'alter table fleet_q.steps add column mine int',
      'truncate fleet_q.steps',
      'create index on fleet_q.steps (args)',
      'create function fleet_q.mine() returns int language sql as $$ select 1 $$',
      'create or replace function fleet_q.clock() returns timestamptz language sql stable as $$ select now() $$',
      'create trigger mine before insert on fleet_q.steps for each row execute function suppress_redundant_updates_trigger()',
      `select fleet_q.grant_app('${READER}')`,
      'select * from public.shop',
      'select * from pg_authid',
      `copy fleet_q.steps to program 'cat'`,
      `alter role ${APP} superuser`,
    ])
  })

  test('cannot rewrite what was done: the audit, digests, roles of tokens, the list of migrations', async () => {
    await assertForbidden(app, [
      'delete from fleet_q.audit',
      `update fleet_q.audit set who = 'somebody else'`,
      `update fleet_q.tokens set role = 'admin'`,
      `update fleet_q.tokens set digest = sha256('mine')`,
      'delete from fleet_q.tokens',
      'delete from fleet_q.migrations',
      `insert into fleet_q.grants values ('${APP}', 'app')`,
    ])
    for (const age of ['1 day', '-12000 months 360030 days', 'infinity'])
      await assert.rejects(app.unsafe(`select fleet_q.forget_audit('${age}', 1000)`), age)
    await assertForbidden(app, [
      `insert into fleet_q.audit (id, operation, who, role, details) overriding system value values (1, 'a', 'b', 'c', '{}')`,
      `insert into fleet_q.audit (at, operation, who, role, details) values ('2020-01-01', 'a', 'b', 'c', '{}')`,
    ])
    await db.sql`insert into fleet_q.tokens (name, role, digest, created_by, revoked_at)
      values ('gone', 'viewer', sha256('gone'), 'the test', now())`
    await assert.rejects(app`update fleet_q.tokens set revoked_at = null where name = 'gone'`, /stays so/)
  })

  test('is called by nobody in place of what Postgres brings', async () => {
    const trap = await testDatabase()
    await trap.sql`create table public.sprung (by text)`
    await trap.sql`grant insert on public.sprung to public`
    for (const [name, args] of [
      ['format', 'text, name'],
      ['quote_ident', 'name'],
      ['count', 'int'],
    ])
      await trap.sql.unsafe(`create function public.${name}(${args}) returns text language plpgsql as
        $$begin insert into public.sprung values ('${name}'); return pg_catalog.quote_ident($1::text); end$$`)
    await trap.sql.unsafe(`select fleet_q.grant_app('${APP}'), fleet_q.apply_grants()`)
    const pod = await startTestPod(trap.url, [])
    await createClient({ baseUrl: pod.url }).getQueue()
    await pod.stop()
    assert.deepEqual([...(await trap.sql`select by from public.sprung`)], [])
    await trap.sql.unsafe(`drop owned by ${APP}`)
  })

  test('that becomes a reader keeps nothing of what it had', async () => {
    const other = await testDatabase()
    await other.sql.unsafe(`select fleet_q.grant_app('${APP}'), fleet_q.grant_reader('${APP}')`)
    const was = postgres(urlOf(APP, other.url), { max: 1, onnotice: () => {} })
    atEnd(() => was.end({ timeout: 1 }))
    await assertForbidden(was, [
      `select nextval('fleet_q.step_ids')`,
      `select fleet_q.forget_audit('40 days', 1)`,
      'insert into fleet_q.pauses (type) values (null)',
    ])
    await was`select from fleet_q.pods`
    await other.sql.unsafe(`drop owned by ${APP}`)
  })

  test('does not migrate: a pod of a newer version says who must, and works when that was done', async () => {
    const old = await testDatabase({ empty: true })
    const [last] = readMigrations().slice(-1)
    const owner = connect({ url: old.url, name: 'owner', max: 1, pooler: false, deadlineMs: 20_000 })
    const pods = connect({ url: urlOf(APP, old.url), name: 'pod', max: 1, pooler: false, deadlineMs: 20_000 })
    atEnd(() => Promise.all([owner.close(), pods.close()]))
    await migrate(owner)
    await old.sql.unsafe(`select fleet_q.grant_app('${APP}')`)
    assert.deepEqual((await migrate(pods)).applied, [], 'where there is nothing to do it needs no right')
    const next = {
      version: (last?.version ?? 0) + 1,
      name: 'next',
      text: 'create table fleet_q.next (id int)',
    }
    await assert.rejects(migrate(pods, [...readMigrations(), next]), {
      code: 'schema_older',
      message: new RegExp(`version ${last?.version}, this build needs ${next.version}.*fleet-q migrate`),
    })
    await migrate(owner, [...readMigrations(), next])
    await migrate(pods, [...readMigrations(), next])
    await pods.run((sql) => sql`insert into fleet_q.next values (1)`)
    await old.sql.unsafe(`drop owned by ${APP}`)
  })
})

suite('the role of readers', () => {
  test('sees where steps lie and how the fleet does', async () => {
    for (const question of [
      'select step_id, status, tray, pod_id from fleet_q.step_status limit 1',
      'select count(*) from fleet_q.ready',
      'select status, count(*) from fleet_q.outcomes group by status',
      'select * from fleet_q.pods',
      'select * from fleet_q.leader_terms',
    ])
      await reader.unsafe(question)
  })

  test('sees nothing of what steps carry, and no token', async () => {
    await assertForbidden(reader, [
      'select * from fleet_q.steps',
      'select args from fleet_q.steps',
      'select metadata from fleet_q.steps',
      'select result from fleet_q.outcomes',
      'select error from fleet_q.outcomes',
      'select error from fleet_q.attempts',
      'select error from fleet_q.redrives',
      'select error from fleet_q.step_status',
      'select message from fleet_q.progress',
      'select * from fleet_q.logs',
      'select * from fleet_q.idempotency_keys',
      'select * from fleet_q.unique_keys',
      'select * from fleet_q.tokens',
      'select * from fleet_q.audit',
      'select reason from fleet_q.pauses',
      'table fleet_q.recovery_requests',
    ])
  })

  test('changes nothing', async () => {
    const tables = await db.sql<{ name: string }[]>`
      select quote_ident(relname) as name from pg_class where relnamespace = 'fleet_q'::regnamespace and relkind = 'r'`
    assert.ok(tables.length > 20)
    await assertForbidden(
      reader,
      tables.flatMap(({ name }) => [
        `delete from fleet_q.${name}`,
        `insert into fleet_q.${name} default values`,
        `truncate fleet_q.${name}`,
      ]),
    )
    await assertForbidden(reader, [
      `select fleet_q.submit('hello')`,
      `update fleet_q.pods set status = 'gone'`,
      `select nextval('fleet_q.step_ids')`,
      `select fleet_q.forget_audit('40 days', 1)`,
    ])
  })

  test('can use every page for people at night but the one that groups by error', async () => {
    const folder = 'sql/inspect'
    const refused: string[] = []
    for (const page of readdirSync(folder).filter((file) => file.endsWith('.sql')))
      await reader
        .unsafe(readFileSync(join(folder, page), 'utf8'))
        .simple()
        .catch((error: { message: string }) => {
          refused.push(`${page}: ${error.message}`)
          return reader.unsafe('rollback')
        })
    assert.deepEqual(refused, ['dead-letters.sql: permission denied for table outcomes'])
  })
})
