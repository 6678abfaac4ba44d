import { mkdirSync, writeFileSync } from 'node:fs'
import { createClient } from '../../../src/client.ts'
import { VERSION } from '../../../src/fleet/version.ts'
import { endNow } from '../../support/cleanup.ts'
import { testDatabase } from '../../support/database.ts'
import { startTestPod } from '../../support/pods.ts'
import { startTestServer } from '../../support/server.ts'
import { until } from '../../support/until.ts'
import { goOn, STEPS } from './go-on.ts'
import { takeHistory } from './history.ts'
import { scenarios } from './scenarios.ts'

/**
 * npm run histories:record: stores what this version remembers of each scenario, from real runs. At a release, and never
 * to make a test pass: histories that do not fit the code any more are executions that do not survive the upgrade.
 */
const folder = `test/execution/histories/${VERSION}`
mkdirSync(folder, { recursive: true })
const server = await startTestServer()

for (const [name, scenario] of scenarios) {
  const db = await testDatabase({ serverUrl: server.url })
  const pod = await startTestPod(db.url, STEPS)
  const client = createClient({ baseUrl: pod.url })
  const { execution_id } = await client.startExecution({ task_name: scenario.step.type, max_retries: 0 })
  for (const [event_name, payload] of scenario.events)
    await client.sendEvent({ execution_id, event_name, payload })
  const key = await until(`${name} to be asleep over "${scenario.asleepOver}"`, async () => {
    const [row] = await db.sql`
      select step_id from fleet_q.later
      where step_id = fleet_q.step_key(${execution_id}) and why in ('sleep', 'wait') and exists (
        select from fleet_q.checkpoints
        where checkpoints.step_id = later.step_id and name = ${scenario.asleepOver} and turn is null)`
    return row && String(row['step_id'])
  })
  await pod.stop()
  const asleep = await takeHistory(db.sql, key)
  const ended = await goOn(db, execution_id, scenario)
  const file = `${folder}/${name}.json`
  writeFileSync(file, `${JSON.stringify({ ...asleep, ended }, null, 2)}\n`)
  process.stdout.write(`${file}: ${asleep.checkpoints.length} checkpoints, then ${ended.status}\n`)
}

await endNow()
await server.stop()
process.exit(0)
