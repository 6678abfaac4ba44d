import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { specs } from '../../src/http/specs.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { startPodProcess } from '../support/processes.ts'
import { until } from '../support/until.ts'

/**
 * Secrets are put in wherever they can be, and then looked for in everything that comes out. Each holds this word, and
 * their other parts differ, so that a finding names the one that leaked.
 */
const CANARY = 'canary7f3a'
const secret = (name: string) => `${name}-${CANARY}-0123456789`
const PASSWORD = secret('password')
const ROLE = `canary_${process.pid}`

const db = await testDatabase()
await db.sql.unsafe(`create role ${ROLE} login superuser password '${PASSWORD}'`)
atEnd(async () => void (await db.sql.unsafe(`drop role ${ROLE}`)))

const withPassword = new URL(db.url)
withPassword.username = ROLE
withPassword.password = PASSWORD
const roles = ['viewer', 'producer', 'operator', 'admin'] as const
const SECRETS = {
  DATABASE_URL: withPassword.href,
  FLEET_Q_TOKENS: roles.map((role) => `${role}:${secret(role)}`).join(','),
  FLEET_Q_TOKEN: secret('own'),
}

/** Where the word stands, with what stands around it. */
function leaks(where: string, text: string): string[] {
  return [...text.matchAll(new RegExp(`.{0,80}${CANARY}.{0,40}`, 'g'))].map(([found]) => `${where}: ${found}`)
}

const run = (file: string, args: string[], env: Record<string, string>) =>
  new Promise<string>((resolve) => {
    const path = fileURLToPath(new URL(`../../src/${file}`, import.meta.url))
    const child = spawn(process.execPath, ['--import', 'tsx', path, ...args], {
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'], FLEET_Q_LOG_LEVEL: 'trace', ...env },
    })
    atEnd(() => void child.kill('SIGKILL'))
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
    child.on('close', () => resolve(said))
  })

test('a pod that answers, refuses, loses its connections and crashes shows no secret anywhere', async () => {
  const pod = await startPodProcess(SECRETS.DATABASE_URL, { ...SECRETS, FLEET_Q_LOG_LEVEL: 'trace' })
  const found: string[] = []
  const ask = async (method: string, path: string, headers: Record<string, string>, body?: string) => {
    const init = { method, headers: { 'content-type': 'application/json', ...headers } }
    const response = await fetch(`${pod.url}${path}`, body === undefined ? init : { ...init, body })
    const text = await response.text()
    const answer = `${JSON.stringify([...response.headers])} ${text}`
    found.push(...leaks(`the answer of ${method} ${path}, ${response.status}`, answer))
    return { status: response.status, text }
  }
  const bearer = (token: string) => ({ authorization: `Bearer ${token}`, cookie: secret('cookie') })

  // Who has come from here before is let in, however many wrong tokens come from here later.
  for (const role of roles) await ask('GET', '/admin/queue', bearer(secret(role)))
  const places = Object.values(specs).map(({ method, path }) => ({
    method,
    path: path.replaceAll(/[{}]/g, ''),
  }))
  for (const page of ['/metrics', '/docs', '/openapi.json', '/nowhere'])
    places.push({ method: 'GET', path: page })
  const kinds = [bearer(secret('admin')), bearer(secret('viewer')), bearer(secret('unknown')), {}]
  for (const { method, path } of places)
    for (const headers of kinds) {
      await ask(method, path, headers, method === 'GET' ? undefined : '{"strange":1}')
      await ask('GET', `${path}?token=${secret('query')}`, headers)
    }
  const basic = { authorization: `Basic ${Buffer.from(`a:${secret('basic')}`).toString('base64')}` }
  assert.equal((await ask('GET', '/admin/queue', basic)).status, 401)

  // What is submitted is kept, and shown to those who may look; it belongs into no line of a log.
  const step = {
    type: 'polite',
    args: { n: 1, password: secret('argument') },
    metadata: { token: secret('metadata') },
  }
  assert.equal((await ask('POST', '/submit', bearer(secret('producer')), JSON.stringify(step))).status, 201)
  await ask('POST', '/submit', bearer(secret('producer')), JSON.stringify({ ...step, priority: 'none' }))
  await until('the step to be settled', async () => (await db.sql`select from fleet_q.outcomes`).length > 0)
  await db.sql`select pg_terminate_backend(pid) from pg_stat_activity where usename = ${ROLE}`
  await until('the pod to be ready again', async () => (await ask('GET', '/readyz', {})).status === 200)

  const backends = await db.sql`select * from pg_stat_activity where usename = ${ROLE}`
  found.push(...leaks('pg_stat_activity', JSON.stringify(backends)))
  if (existsSync(`/proc/${pod.pid}/cmdline`))
    for (const file of ['cmdline', 'comm'])
      found.push(...leaks(`its ${file}`, readFileSync(`/proc/${pod.pid}/${file}`, 'utf8')))
  const tables = await db.sql<{ name: string }[]>`
    select table_name as name from information_schema.tables
    where table_schema = 'fleet_q' and table_type = 'BASE TABLE' and table_name <> 'steps'`
  for (const { name } of tables)
    found.push(...leaks(`table ${name}`, JSON.stringify(await db.sql`select * from fleet_q.${db.sql(name)}`)))

  await ask('POST', '/submit', bearer(secret('producer')), '{"type":"timer-throws","args":{}}')
  await pod.exited
  found.push(...leaks('the log', pod.output()))
  assert.match(pod.output(), /thrown in a timer/, 'the crash was told')
  assert.deepEqual(found, [])
})

test('a pod that cannot start shows no secret, whatever is wrong with it', async () => {
  const { host, pathname } = withPassword
  const cases: Record<string, string>[] = [
    { DATABASE_URL: `postgres://${ROLE}:${PASSWORD}@127.0.0.1:1/none` },
    { DATABASE_URL: `postgres://${ROLE}:${PASSWORD}@${host}/none_${process.pid}` },
    { DATABASE_URL: `postgres://${ROLE}:${PASSWORD}@host:port${pathname}` },
    { DATABASE_URL: `postgres:/${ROLE}:${PASSWORD}@${host}${pathname}` },
    { DATABASE_URL: `mysql://${ROLE}:${PASSWORD}@${host}${pathname}` },
    { DATABASE_URL: `postgres://${ROLE}:%zz${PASSWORD}@${host}${pathname}` },
    { DATABASE_URL: `postgres://nobody_${process.pid}:${PASSWORD}@${host}${pathname}` },
    { ...SECRETS, FLEET_Q_TOKENS: `boss:${secret('boss')}` },
    { ...SECRETS, FLEET_Q_TOKENS: secret('bare') },
    { ...SECRETS, FLEET_Q_TOKENZ: secret('misspelt') },
    { ...SECRETS, FLEET_Q_API_PORT: 'none' },
    { ...SECRETS, FLEET_Q_HANDLERS: '/nowhere/at/all' },
  ]
  const said = await Promise.all(cases.map((env) => run('main.ts', [], env)))
  for (const text of said) assert.match(text, /fleet-q: /)
  assert.deepEqual(
    said.flatMap((text, i) => leaks(`case ${i}`, text)),
    [],
  )
})

test('fleet-q config masks every secret, and still shows which database and which roles', async () => {
  const odd = `postgres://${ROLE}:a@${PASSWORD}/b@${withPassword.host}${withPassword.pathname}?sslpassword=${secret('query')}`
  const cases: Record<string, string>[] = [
    SECRETS,
    { ...SECRETS, FLEET_Q_TOKENS: `admin:http://${secret('url')}:x,viewer:a:${secret('colon')}` },
    { DATABASE_URL: odd },
  ]
  const said = await Promise.all(cases.map((env) => run('cli.ts', ['config'], env)))
  assert.match(said[0] ?? '', new RegExp(`${ROLE}:\\*\\*\\*@`))
  assert.match(said[0] ?? '', /viewer:\*\*\*,producer:\*\*\*,operator:\*\*\*,admin:\*\*\*/)
  assert.deepEqual(
    said.flatMap((text, i) => leaks(`case ${i}`, text)),
    [],
  )
})
