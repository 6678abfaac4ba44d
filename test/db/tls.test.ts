import assert from 'node:assert/strict'
import { chownSync, chmodSync, copyFileSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { noContact } from '../../src/db/address.ts'
import { connect } from '../../src/db/connect.ts'
import { isUnverified, wayTo } from '../../src/db/tls.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { startTestPod } from '../support/pods.ts'
import { startOwnPostgres } from '../support/postgres.ts'
import { until } from '../support/until.ts'

/** A wire to a database that is not on this machine: encrypted, and held by whom it says. */

const CERTIFICATES = join(import.meta.dirname, 'certificates')
const file = (name: string) => join(CERTIFICATES, name)

test('on this machine nothing is encrypted; anywhere else a certificate is wanted, unless somebody says otherwise', () => {
  for (const host of [
    'localhost',
    '127.0.0.1:5432',
    '[::1]:5432',
    '%2Fvar%2Frun%2Fpostgresql',
    'localhost,127.0.0.1',
  ])
    assert.equal(wayTo(`postgres://u:p@${host}/d`).ssl, false, host)
  for (const host of [
    'db',
    'db:5432',
    '10.0.0.7',
    'localhost.example',
    'localhost,db',
    '127.0.0.1.example',
    '[fd00::1]',
  ])
    for (const mode of ['', '?sslmode=verify-full', '?sslmode=require', '?sslmode=verify-ca']) {
      const { ssl } = wayTo(`postgres://u:p@${host}/d${mode}`)
      assert.equal(ssl && ssl.rejectUnauthorized, true, host + mode)
    }
  assert.equal(wayTo('postgres://u:p@db/d?sslmode=disable').ssl, false)
  const { ssl } = wayTo('postgres://u:p@db/d?sslmode=no-verify')
  assert.equal(ssl && ssl.rejectUnauthorized, false)
  assert.ok(isUnverified('postgres://u:p@db/d?sslmode=disable'))
  assert.ok(isUnverified('postgres://u:p@db/d?sslmode=no-verify'))
  assert.ok(!isUnverified('postgres://u:p@db/d'))
  assert.ok(!isUnverified('postgres://u:p@localhost/d'))
})

test('the driver goes where was looked, whatever an address looks like', () => {
  for (const [url, hosts] of [
    ['postgres:///app', ['localhost']],
    ['postgres://u:p@[fd00::1]:5433/d', ['fd00::1']],
    ['postgres://u:a@b,c@localhost/d', ['localhost']],
    ['postgres://db.evil#@localhost/d', ['db.evil']],
    ['postgres://u:p@db1:1,db2:2/d', ['db1', 'db2']],
    ['postgres://u:p@%2Ftmp/d', ['/tmp']],
  ] as const) {
    const way = wayTo(url)
    assert.deepEqual(way.hosts, hosts, url)
    assert.deepEqual(way.place.host, hosts, url)
  }
  assert.deepEqual(wayTo('postgres://u:p@db1:1,db2/d').place.port, [1, 5432])
  assert.equal(wayTo('postgres://u:p@%2Ftmp:5433/d').place.path, '/tmp/.s.PGSQL.5433')
})

test('what is ours of an address does not reach the server, and what is not stays', () => {
  const { url } = wayTo(
    `postgres://u:p@db/d?sslmode=verify-full&sslrootcert=${file('ca.pem')}&options=-c%20x`,
  )
  assert.equal(url, 'postgres://u:p@db/d?options=-c+x')
  assert.throws(() => wayTo('postgres://u:p@db/d?sslmode=prefer'), /sslmode=prefer is none of verify-full/)
  assert.throws(
    () => wayTo('postgres://u:p@db/d?sslrootcert=/nowhere.pem'),
    /sslrootcert=\/nowhere\.pem cannot be read/,
  )
})

test('a certificate is held against the name, or the number, that was asked for', () => {
  const names = { subject: { CN: 'x' }, subjectaltname: 'DNS:localhost, IP Address:10.0.0.7' }
  const verdict = (host: string) => {
    const { ssl } = wayTo(`postgres://u:p@${host}/d`)
    // The part of a certificate that is looked at.
    return ssl && ssl.checkServerIdentity?.('localhost', names as never)
  }
  assert.equal(verdict('10.0.0.7'), undefined)
  assert.match(String(verdict('10.0.0.8')), /does not match/)
  assert.match(String(verdict('db')), /does not match/)
})

const server = await startOwnPostgres()
const db = await testDatabase({ serverUrl: server.url })

/** Its certificate is another one from now on. */
async function show(certificate: string) {
  const folder = join(server.dataDir, 'pg')
  const { uid, gid } = statSync(folder)
  for (const [from, to] of [
    [certificate, 'server.crt'],
    ['server.key', 'server.key'],
  ] as const) {
    const target = join(folder, to)
    copyFileSync(file(from), target)
    chmodSync(target, 0o600)
    chownSync(target, uid, gid)
  }
  await db.sql`alter system set ssl = on`
  // The postmaster reads its settings before its children do: one that has this has the certificate, too.
  await db.sql.unsafe(`alter system set log_line_prefix = '${certificate}'`)
  await db.sql`select pg_reload_conf()`
  await until(
    'the server to read its certificate',
    async () => (await db.sql`show log_line_prefix`)[0]?.['log_line_prefix'] === certificate,
  )
}

const TLS_ONLY = `select version from pg_stat_ssl where pid = pg_backend_pid() and ssl`

async function ask(query: string) {
  const url = `${db.url}${query}`
  const database = connect({ url, name: 'tls', max: 1, pooler: false, deadlineMs: 5000 })
  atEnd(() => database.close())
  return database
    .run((sql) => sql.unsafe(TLS_ONLY))
    .then(
      ([row]) => String(row?.['version']),
      (error: unknown) => String(noContact(error, url)),
    )
}

const trusting = `?sslmode=verify-full&sslrootcert=${file('ca.pem')}`

test('a server that shows no certificate is not spoken to, and the words say what to do', async () => {
  assert.match(await ask('?sslmode=verify-full'), /does not speak TLS.*\?sslmode=disable/)
})

test('the right authority and the right name are spoken to, over TLS; wrong ones are not', async () => {
  await show('server.pem')
  assert.match(await ask(trusting), /^TLSv1/)
  assert.match(await ask('?sslmode=verify-full'), /cannot be trusted.*\?sslrootcert=/)
  assert.match(await ask(`?sslmode=verify-full&sslrootcert=${file('other-ca.pem')}`), /cannot be trusted/)
  assert.match(await ask('?sslmode=no-verify'), /^TLSv1/)
  assert.equal(await ask(''), 'undefined', 'on this machine nothing is encrypted unless it is asked for')
  await show('elsewhere.pem')
  assert.match(await ask(trusting), /cannot be trusted \(ERR_TLS_CERT_ALTNAME_INVALID\)/)
  await show('server.pem')
})

test('a pod speaks TLS on every one of its connections: work, heart, doorbell, transactions', async () => {
  const pod = await startTestPod(`${db.url}${trusting}`, [])
  await until('its connections', async () => {
    const rows = await db.sql<{ name: string; ssl: boolean }[]>`
      select split_part(application_name, ' ', 2) as name, ssl from pg_stat_activity join pg_stat_ssl using (pid)
      where application_name like ${`fleet-q % ${pod.id}`}`
    assert.deepEqual(
      rows.filter(({ ssl }) => !ssl),
      [],
    )
    return new Set(rows.map(({ name }) => name)).size >= 4
  })
  assert.match(readFileSync(file('ca.pem'), 'utf8'), /BEGIN CERTIFICATE/)
})
