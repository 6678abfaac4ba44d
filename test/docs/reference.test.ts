import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { stepContext } from '../../src/testing.ts'
import { ERROR_CODES } from '../../src/errors.ts'
import { STATUS } from '../../src/http/problem.ts'
import { testDatabase } from '../support/database.ts'
import { ACCESS_PAGE, accessPage } from '../support/access-page.ts'
import { SETTINGS_PAGE, settingsPage } from '../support/settings-page.ts'
import { execute } from './page.ts'

/** The pages of docs/reference say what the code does. */

const read = (page: string) => readFileSync(page, 'utf8')
const { sql } = await testDatabase()

test('the pages of settings and of access are those that the code describes (npm run generate writes them)', () => {
  assert.equal(read(SETTINGS_PAGE), settingsPage())
  assert.equal(read(ACCESS_PAGE), accessPage())
})

test('every error code has one row, with its status over HTTP, a cause and a cure', () => {
  const rows = [
    ...read('docs/reference/errors.md').matchAll(/^\| `(\w+)` \| (\d+) `(\w+)` \| (.+?) \| (.+?) \|$/gm),
  ]
  const written = rows.map(([, code, status, type]) => ({ code, status: Number(status), type }))
  const real = ERROR_CODES.map((code) => ({
    code,
    status: STATUS[code].status,
    type: STATUS[code].error_type,
  }))
  assert.deepEqual(written, real)
})

test('every command of the command line is on its page', async () => {
  const help = await execute(process.execPath, ['--import', 'tsx', 'src/cli.ts', 'help'], {})
  const commands = [...help.matchAll(/^ {2}fleet-q (\w+)/gm)].map(([, name = '']) => name)
  const page = read('docs/reference/cli.md')
  assert.ok(commands.length >= 6, help)
  assert.deepEqual(
    commands.filter((name) => !page.includes(`| \`fleet-q ${name}`)),
    [],
  )
})

test('everything that a handler gets is on the page of the context, and nothing else', () => {
  const named = [...read('docs/reference/context.md').matchAll(/^\| `ctx\.(\w+)` \|/gm)].map(
    ([, name = '']) => name,
  )
  assert.deepEqual(named.toSorted(), Object.keys(stepContext('any')).toSorted())
})

for (const name of ['submit', 'send_event'])
  test(`the arguments of fleet_q.${name} are those of the page, in their order`, async () => {
    const rows = await sql<{ name: string }[]>`
    select unnest(proargnames) as name from pg_proc
    where proname = ${name} and pronamespace = 'fleet_q'::regnamespace`
    const names = rows.map((row) => row.name)
    const section = read('docs/reference/sql.md').split(`## fleet_q.${name}\n`)[1]?.split('\n## ')[0] ?? ''
    assert.deepEqual(
      [...section.matchAll(/^\| `(\w+)` \|/gm)].map(([, argument]) => argument),
      names,
    )
  })

test('the columns of fleet_q.step_status are those of the page', async () => {
  const rows = await sql<{ name: string }[]>`
    select column_name as name from information_schema.columns
    where table_schema = 'fleet_q' and table_name = 'step_status'`
  const section = read('docs/reference/sql.md').split('| Column | |')[1] ?? ''
  const named = [...section.matchAll(/^\| (`.+?) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`(\w+)`/g)].map(([, name = '']) => name),
  )
  assert.deepEqual(named.toSorted(), rows.map(({ name }) => name).toSorted())
})
