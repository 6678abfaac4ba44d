import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { connect } from 'node:net'
import { suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { isToken, newToken } from '../../src/access/token.ts'
import { createClient } from '../../src/client.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { get } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'

const CLI = fileURLToPath(new URL('../../src/cli.ts', import.meta.url))

/** A command as somebody types it. */
async function fleetQ(url: string, ...args: string[]) {
  const child = spawn(process.execPath, ['--import', 'tsx', CLI, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], DATABASE_URL: url },
  })
  atEnd(() => void child.kill('SIGKILL'))
  let out = ''
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, out: out.trim(), said: said.trim() }
}

const opens = async (pod: { url: string }, token: string, path = '/admin/leader') =>
  (await fetch(`${pod.url}${path}`, { headers: { authorization: `Bearer ${token}` } })).status

test('a token carries 256 bits of chance and a checksum that tells what was mistyped', () => {
  const token = newToken()
  assert.match(token, /^fq_[0-9A-Za-z]{49}$/)
  assert.ok(isToken(token))
  for (let i = 3; i < token.length; i++) {
    const other = token[i] === 'x' ? 'y' : 'x'
    assert.ok(!isToken(token.slice(0, i) + other + token.slice(i + 1)), `another letter at ${i}`)
  }
  assert.equal(new Set(Array.from({ length: 1000 }, newToken)).size, 1000)
})

suite('tokens', { concurrency: 2 }, () => {
  test('a token made by the command line opens a running pod at once, for its role and no more; revoked, it opens nothing', async () => {
    const db = await testDatabase()
    const pod = await startTestPod(db.url, [])
    assert.equal((await get(pod.url, '/admin/leader')).status, 200)

    const made = await fleetQ(
      db.url,
      'token',
      'create',
      '--role',
      'viewer',
      '--name',
      'page',
      '--expires',
      '90d',
    )
    assert.equal(made.code, 0, made.said)
    assert.match(made.said, /^Token 1 \(page\), role viewer, good until .*not shown again:$/)
    assert.equal(await opens(pod, made.out), 200)
    assert.equal(await opens(pod, made.out, '/admin/tokens'), 403)
    assert.equal(await opens(pod, 'fq_made-up'), 401)
    await until('the door to close', async () => (await get(pod.url, '/admin/leader')).status === 401)

    const [row] = await db.sql`select digest, t::text as all from fleet_q.tokens as t`
    assert.equal(row?.['digest'].length, 32)
    assert.ok(!String(row?.['all']).includes(made.out), 'it is not stored')
    await until('its use to be noted', async () => {
      const [used] = await db.sql`select used_at from fleet_q.tokens where used_at is not null`
      return used !== undefined
    })
    assert.match(
      (await fleetQ(db.url, 'token', 'list')).out,
      /^1 {2}viewer +page +last used \d{4}-\d\d-\d\dT\d\d:\d\dZ +until /,
    )

    const { code, out } = await fleetQ(db.url, 'token', 'revoke', '1')
    assert.equal(code, 0)
    assert.match(out, /^Token 1 \(page\) opens nothing any more/)
    await until('the pod to know', async () => (await opens(pod, made.out)) === 401)
    assert.match((await fleetQ(db.url, 'token', 'list')).out, /no tokens that are good/)
    assert.match((await fleetQ(db.url, 'token', 'list', '--all')).out, /revoked/)
    assert.match((await fleetQ(db.url, 'token', 'revoke', '1')).said, /is revoked already/)
    const audit = await db.sql`select operation, target, who from fleet_q.audit order by id`
    assert.deepEqual(
      audit.map(({ operation, target }) => `${operation} ${target}`),
      ['createToken token 1', 'revokeToken token 1'],
    )
  })

  test('a token ends by the clock of the database, also on a pod that knows it', async () => {
    const db = await testDatabase()
    const pod = await startTestPod(db.url, [])
    const open = createClient({ baseUrl: pod.url })
    const { token } = await open.createToken({ name: 'short', role: 'viewer', expires_in_seconds: 600 })
    assert.equal(await opens(pod, token), 200)
    await db.travel('601 seconds')
    await until('it to end', async () => (await opens(pod, token)) === 401)
  })

  test('a fleet that had tokens once stays closed when the last of them is gone', async () => {
    const db = await testDatabase()
    const pod = await startTestPod(db.url, [])
    const open = createClient({ baseUrl: pod.url })
    const { token, token_id } = await open.createToken({ name: 'only', role: 'admin' })
    await createClient({ baseUrl: pod.url, token }).revokeToken({ token_id })
    const later = await startTestPod(db.url, [])
    assert.equal((await get(later.url, '/admin/leader')).status, 401)
  })

  test('a token opens the pod that made it, at its first use and at once', async () => {
    const db = await testDatabase()
    const pod = await startTestPod(db.url, [])
    let client = createClient({ baseUrl: pod.url })
    for (let n = 0; n < 5; n++) {
      const { token } = await client.createToken({ name: `number ${n}`, role: 'admin' })
      client = createClient({ baseUrl: pod.url, token })
      assert.equal(await opens(pod, token), 200)
    }
  })

  test('a token that is revoked while a body comes opens nothing', async () => {
    const db = await testDatabase()
    const pod = await startTestPod(db.url, [])
    const { token, token_id } = await createClient({ baseUrl: pod.url }).createToken({
      name: 'a',
      role: 'admin',
    })
    const socket = connect(pod.address.port, '127.0.0.1')
    const body = JSON.stringify({ name: 'smuggled', role: 'admin' })
    const begunAt = performance.now()
    socket.write(
      `POST /admin/tokens HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${token}\r\n` +
        `content-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n`,
    )
    await createClient({ baseUrl: pod.url, token }).revokeToken({ token_id })
    await until('the pod to know', async () => (await opens(pod, token)) === 401)
    await until('the body to be late', () => performance.now() - begunAt > 200)
    socket.write(body)
    let answer = ''
    for await (const chunk of socket) answer += String(chunk)
    assert.match(answer, /^HTTP\/1\.1 401/)
    assert.equal((await db.sql`select from fleet_q.tokens where name = 'smuggled'`).length, 0)
  })

  test('while the database is away a token of the settings goes on working', async () => {
    const db = await testDatabase()
    const proxy = await startProxy(db.url)
    const configured = '0123456789abcdef'
    const pod = await startTestPod(proxy.url, [], { FLEET_Q_TOKENS: `viewer:${configured}` })
    const { out: made } = await fleetQ(db.url, 'token', 'create', '--role', 'viewer')
    assert.equal(await opens(pod, made), 200)
    await proxy.refuse()
    proxy.cut()
    await until('the ring to be too old', async () => (await opens(pod, made, '/metrics')) === 503)
    assert.equal(await opens(pod, configured, '/metrics'), 200)
    proxy.pass()
  })

  test('while the database is away probes are answered, and what needs a token is 503, not 401', async () => {
    const db = await testDatabase()
    const proxy = await startProxy(db.url)
    const pod = await startTestPod(proxy.url, [])
    const { token } = await createClient({ baseUrl: pod.url }).createToken({ name: 'a', role: 'viewer' })
    assert.equal(await opens(pod, token), 200)
    await proxy.refuse()
    proxy.cut()
    await until('the ring to be too old', async () => (await opens(pod, token, '/metrics')) === 503)
    assert.equal((await get(pod.url, '/health')).status, 200)
    proxy.pass()
    await until('the pod to find its database', async () => (await opens(pod, token)) === 200)
  })

  test('beyond this machine a pod serves only with a token, wherever it is kept', async () => {
    const db = await testDatabase()
    const beyond = { FLEET_Q_API_HOST: '0.0.0.0' }
    await assert.rejects(startTestPod(db.url, [], beyond), /there is no token.*fleet-q token create/)
    await startTestPod(db.url, [], { ...beyond, FLEET_Q_INSECURE: '1' })
    await startTestPod(db.url, [], { ...beyond, FLEET_Q_TOKENS: 'admin:0123456789abcdef' })
    await fleetQ(db.url, 'token', 'create', '--role', 'admin')
    const pod = await startTestPod(db.url, [], beyond)
    assert.equal((await get(pod.url, '/admin/leader')).status, 401)
  })
})

test('what is wrong with a command is said, with what to write', async () => {
  const db = await testDatabase()
  for (const [args, words] of [
    [['token'], /Say what to do with tokens/],
    [['token', 'create'], /--role must be one of viewer, producer, operator, admin/],
    [['token', 'create', '--role', 'root'], /--role must be one of/],
    [['token', 'create', '--role', 'admin', '--expires', 'soon'], /"soon" is no span of time/],
    [['token', 'revoke', 'all'], /Say which/],
    [['token', 'revoke', '7'], /There is no token 7/],
  ] as const) {
    const { code, said, out } = await fleetQ(db.url, ...args)
    assert.equal(code, 1)
    assert.match(said, words)
    assert.equal(out, '')
  }
})
