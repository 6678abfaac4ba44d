import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { startPods, startsFile, submitMany, endPods } from './fleet.ts'
test('x', async () => {
  const { url, sql } = await testDatabase()
  const file = startsFile()
  const pods = await startPods(url, 3)
  await submitMany(pods[0] as never, 24, (n) => ({ type: 'long-at-first', args: { file: file.path, ms: 60_000, n } }))
  for (let i = 0; i < 12; i++) {
    await new Promise((r) => setTimeout(r, 500))
    console.log(i, file.starts().length, JSON.stringify(await sql`select (select count(*)::int from fleet_q.ready) as ready, (select json_agg(json_build_object('pod', pod_id, 'n', cardinality(step_ids))) from fleet_q.claims) as claims, (select json_agg(json_build_object('s', ended)) from fleet_q.attempts) as tried`))
  }
  for (const pod of pods) console.log(pod.output().split('\n').slice(-8).join('\n'))
  await endPods(...pods)
})
