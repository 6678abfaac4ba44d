import assert from 'node:assert/strict'
import { lifeOf } from '../recovery/fleet.ts'
import { post } from '../support/http.ts'
import { until } from '../support/until.ts'
import { WAIT_MS } from './fleet.ts'
import { accepted, ask, askAgain, goesOff, newOp, submit, type Operation, type Scene } from './scene.ts'

/** What people and programs ask of a pod, cut in two; and what they are told when they ask again. */

/** The armed pod is asked; whether it answers is seen later. */
async function request(scene: Scene, path: string, body: object) {
  scene.arm()
  scene.reply = ask(scene.armed, path, body)
  await goesOff(scene)
}

/** What the caller got is right for what happened to the pod. A call to the others may fail: it is a hint. */
async function firstReply({ reply, kind, place }: Scene, ok: number) {
  const first = await reply
  const isHint = place.startsWith('call.')
  if (kind === 'throw' && !isHint) assert.equal(first?.status, 500)
  if (kind === 'delay' || (kind === 'throw' && isHint)) assert.equal(first?.status, ok)
  if (kind === 'kill' && !isHint) assert.equal(first, undefined)
  return first?.status === ok ? first : undefined
}

/** Nobody can ask again for what had no key: it is there whole, or not at all. */
const withoutKey = (
  name: string,
  path: string,
  bodyOf: (op: string) => object,
  count: number,
): Operation => ({
  name,
  places: ['submit.before', 'submit.after', 'submit.committed'],
  role: 'follower',
  drive: (scene) => request(scene, path, bodyOf(newOp(scene))),
  async after(scene) {
    await firstReply(scene, 201)
    const rows = await scene.sql<{ op: string; id: string }[]>`
      select args ->> 'op' as op, fleet_q.step_public_id(id, salt, created_at) as id
      from fleet_q.steps where args ->> 'op' like ${`${scene.name}-%`}`
    for (const { op, id } of rows) accepted(scene, op, id)
    // A zombie may still have written it, or have ended before.
    if (scene.kind === 'stop') assert.ok([0, count].includes(rows.length))
    else assert.equal(rows.length, scene.kind === 'delay' || scene.place !== 'submit.before' ? count : 0)
  },
})

const underKey = (name: string, bodyOf: (op: string) => object): Operation => {
  const body = (scene: Scene) => ({ ...bodyOf(scene.name), idempotency_key: scene.name })
  return {
    name,
    places: ['submit.before', 'submit.after', 'submit.committed', 'call.before', 'call.after'],
    role: 'follower',
    drive: (scene) => request(scene, '/submit/batch', body(scene)),
    async after(scene) {
      const first = await firstReply(scene, 201)
      const again = await askAgain(scene.other, '/submit/batch', body(scene))
      const stepIds = again.body['step_ids'] as string[]
      if (first) assert.deepEqual(stepIds, first.body['step_ids'], 'the same key, another answer')
      const third = await post(scene.other.url, '/submit/batch', body(scene))
      assert.deepEqual([third.status, third.body['step_ids']], [200, stepIds])
      for (const [n, stepId] of stepIds.entries()) accepted(scene, `${scene.name}/${n}`, stepId)
    },
  }
}

const WRONG_STATE = 409

/** Where somebody had done it already, the caller is told so. */
const changed = (scene: Scene, path: string) => askAgain(scene.other, path, {}, [200, WRONG_STATE])

export const asked: Operation[] = [
  withoutKey('a submit without a key', '/submit', (op) => ({ type: 'plain', args: { op } }), 1),
  withoutKey(
    'a batch without a key',
    '/submit/batch',
    (op) => ({ steps: [0, 1, 2].map((n) => ({ type: 'plain', args: { op: `${op}/${n}` } })) }),
    3,
  ),
  underKey('a submit under a key', (op) => ({
    steps: ['plain', 'slow', 'ledger'].map((type, n) => ({ type, args: { op: `${op}/${n}`, n: 1, ms: 50 } })),
  })),
  {
    name: 'a cancel of what runs',
    places: ['cancel.before', 'cancel.after', 'call.before', 'call.after'],
    role: 'follower',
    async drive(scene) {
      const stepId = await submit(scene, { type: 'slow', args: { ms: 600_000 } })
      await until('it to run', async () => {
        const [row] =
          await scene.sql`select 1 from fleet_q.claims where fleet_q.step_key(${stepId}) = any (step_ids)`
        return row
      })
      await request(scene, `/steps/${stepId}/cancel`, {})
    },
    async after(scene) {
      const [stepId = ''] = scene.stepIds
      await firstReply(scene, 200)
      await changed(scene, `/steps/${stepId}/cancel`)
      scene.fleet.told.push({ op: scene.name, f: 'cancel', stepId, at: new Date() })
      assert.equal((await lifeOf(scene.sql, stepId)).status, 'cancelled')
    },
  },
  {
    name: 'a redrive',
    places: ['redrive.between', 'redrive.before_commit', 'redrive.after_commit'],
    role: 'follower',
    async drive(scene) {
      const stepId = await submit(scene, { type: 'plain', delay_seconds: 3600 })
      assert.equal((await post(scene.other.url, `/steps/${stepId}/cancel`, {})).status, 200)
      await request(scene, `/steps/${stepId}/retry`, {})
    },
    async after(scene) {
      const [stepId = ''] = scene.stepIds
      await firstReply(scene, 200)
      await changed(scene, `/steps/${stepId}/retry`)
      await until('it to run', async () => (await lifeOf(scene.sql, stepId)).status === 'completed', WAIT_MS)
      const rows = await scene.sql`select 1 from fleet_q.redrives where step_id = fleet_q.step_key(${stepId})`
      assert.equal(rows.length, 1, 'once, however often it was asked for')
    },
  },
  {
    name: 'a pause',
    places: ['pause.between'],
    role: 'follower',
    drive: (scene) => request(scene, '/admin/pause', { key: scene.name }),
    async after(scene) {
      const { other, sql, name } = scene
      const first = await firstReply(scene, 200)
      const again = await askAgain(other, '/admin/pause', { key: name })
      if (first) assert.deepEqual(again.body, first.body)
      const stepId = await submit(scene, { type: 'plain', key: name })
      const witness = await submit(scene, { type: 'plain' })
      await until('another to run', async () => (await lifeOf(sql, witness)).status === 'completed', WAIT_MS)
      assert.equal((await lifeOf(sql, stepId)).status, null, 'it is paused')
      await askAgain(other, '/admin/resume', { key: name })
    },
  },
]
