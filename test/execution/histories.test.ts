import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { goOn } from './histories/go-on.ts'
import { putHistory, type History } from './histories/history.ts'
import { scenarios } from './histories/scenarios.ts'

/**
 * Executions that were asleep when an earlier version was replaced go on with this one. What they remembered is stored
 * by `npm run histories:record`, once for each release.
 */

const FOLDER = 'test/execution/histories'
const versions = readdirSync(FOLDER, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)

const stored = versions.flatMap((version) =>
  readdirSync(`${FOLDER}/${version}`).map((file) => ({
    version,
    name: file.replace(/\.json$/, ''),
    history: JSON.parse(readFileSync(`${FOLDER}/${version}/${file}`, 'utf8')) as History,
  })),
)

test('there is a history of each scenario, and a scenario for each history', () => {
  const names = new Set(scenarios.map(([name]) => name))
  const missing = [...names].filter((name) => !stored.some((each) => each.name === name))
  assert.deepEqual(missing, [], 'never stored: npm run histories:record')
  assert.deepEqual(
    stored.filter(({ name }) => !names.has(name)).map(({ version, name }) => `${version}/${name}`),
    [],
  )
})

for (const { version, name, history } of stored)
  test(`"${name}", which ${version} left asleep, goes on where it was and ends as it did then`, async () => {
    const [, scenario] = scenarios.find(([its]) => its === name) ?? []
    assert.ok(scenario, `there is no scenario "${name}"`)
    const db = await testDatabase()
    const executionId = await putHistory(db.sql, history)
    assert.deepEqual(await goOn(db, executionId, scenario), history.ended)
  })
