import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { post } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'

const { url, sql } = await testDatabase()
const pod = await startTestPod(url, [])

test('a submit is answered when it is committed: one that the commit itself refuses was never accepted', async () => {
  await sql.unsafe(`
    create function public.refuse() returns trigger language plpgsql as
      $$ begin raise exception 'refused by the commit'; end $$;
    create constraint trigger refuse after insert on fleet_q.steps deferrable initially deferred
      for each row when (new.args ? 'refused') execute function public.refuse();`)
  const refused = { type: 'made', args: { refused: true } }
  const ways = [
    () => post(pod.url, '/submit', refused),
    () => post(pod.url, '/submit', refused, { 'idempotency-key': 'refused' }),
    () => post(pod.url, '/submit/batch', { steps: [refused, refused] }),
  ]
  for (const send of ways) {
    const { status, body } = await send()
    assert.equal(status, 500, JSON.stringify(body))
    assert.equal(body['step_id'], undefined)
  }
  assert.equal((await sql`select from fleet_q.steps`).length, 0)
  assert.equal((await post(pod.url, '/submit', { type: 'made', args: {} })).status, 201)
})
