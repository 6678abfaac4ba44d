import assert from 'node:assert/strict'
import { API_PREFIX } from '../../src/http/specs/executions.ts'
import { lifeOf } from '../recovery/fleet.ts'
import { post } from '../support/http.ts'
import { until } from '../support/until.ts'
import { WAIT_MS } from './fleet.ts'
import {
  ask,
  askAgain,
  goesOff,
  submit,
  submitMany,
  untilItGoesOff,
  type Operation,
  type Scene,
} from './scene.ts'

/** What executions do: remember, go to sleep, wake others, undo, and hear of events. */

/** A pod that is frozen in a transaction holds others up, who then try again. */
const MAX_RETRIES = 10

const some = (scene: Scene, type: string, args: object) => () =>
  submitMany(scene, 3, { type, args, max_retries: MAX_RETRIES })

const drive =
  (type: string, args: object): Operation['drive'] =>
  async (scene) => {
    scene.arm()
    await untilItGoesOff(scene, some(scene, type, args))
  }

/** Whatever happened, each of them came to this end. */
const endsAs =
  (status: string) =>
  async ({ sql, stepIds }: Scene): Promise<void> => {
    for (const stepId of stepIds)
      await until(
        `${stepId} to be ${status}`,
        async () => (await lifeOf(sql, stepId)).status === status,
        WAIT_MS,
      )
  }

async function isAsleep({ sql }: Scene, stepId: string) {
  const [row] = await sql`
    select 1 from fleet_q.later where step_id = fleet_q.step_key(${stepId}) and why::text = 'wait'`
  return row
}

const payloadOf = (scene: Scene) => ({ id: `${scene.name}/go` })
/** The answer to an event that is stored. */
const KEPT = 202
const pathOf = (stepId: string) => `${API_PREFIX}/events/${stepId}/go`

const told = (scene: Scene, f: 'event' | 'maybe event', stepId: string) =>
  scene.fleet.told.push({ op: payloadOf(scene).id, f, stepId, at: new Date() })

export const remembering: Operation[] = [
  {
    name: 'a checkpoint',
    places: ['checkpoint.before_write', 'checkpoint.after_write'],
    role: 'follower',
    alone: true,
    holds: true,
    drive: drive('durable', { ms: 20 }),
    after: endsAs('completed'),
  },
  {
    name: 'a body with a transaction',
    places: ['run.before_write', 'run.before_commit'],
    role: 'follower',
    alone: true,
    holds: true,
    drive: drive('durable', { ms: 20 }),
    after: endsAs('completed'),
  },
  {
    name: 'an execution that submits another',
    places: ['submit.before', 'submit.after', 'submit.committed'],
    role: 'follower',
    alone: true,
    holds: true,
    async drive(scene) {
      // Armed while it sleeps: of all that is submitted at this pod, its child is next.
      const stepId = await submit(scene, { type: 'durable', args: { ms: 1500 }, max_retries: MAX_RETRIES })
      await until(
        'it to have written',
        async () => {
          const [row] = await scene.sql`
            select 1 from fleet_q.checkpoints where step_id = fleet_q.step_key(${stepId}) and name = 'ledger'`
          return row
        },
        WAIT_MS,
      )
      scene.arm()
      await goesOff(scene)
    },
    after: endsAs('completed'),
  },
  {
    name: 'executions that go to sleep, and the end of what they wait for',
    places: ['waits.before_settle', 'waits.before_answer', 'waits.before_commit'],
    role: 'follower',
    alone: true,
    holds: true,
    drive: drive('durable', { ms: 20 }),
    after: endsAs('completed'),
  },
  {
    name: 'what is undone',
    places: ['undo.before', 'undo.after'],
    role: 'follower',
    alone: true,
    holds: true,
    drive: drive('repents', {}),
    async after(scene) {
      await endsAs('failed')(scene)
      const rows = await scene.sql<{ name: string }[]>`
        select distinct name from fleet_q.checkpoints join unnest(${scene.stepIds}::text[]) as id on step_id = fleet_q.step_key(id)
        where name like '%/undo' and turn is not null and error is null order by name`
      assert.deepEqual(
        rows.map((row) => row.name),
        ['undo first/undo', 'undo second/undo'],
      )
    },
  },
  {
    name: 'an event',
    places: ['event.before', 'event.after'],
    role: 'follower',
    async drive(scene) {
      const stepId = await submit(scene, { type: 'listens', args: { n: 1 } })
      await until('it to wait', () => isAsleep(scene, stepId), WAIT_MS)
      scene.arm()
      scene.reply = ask(scene.armed, pathOf(stepId), payloadOf(scene))
      await goesOff(scene)
    },
    async after(scene) {
      const [stepId = ''] = scene.stepIds
      const first = await scene.reply
      if (scene.kind === 'throw') assert.equal(first?.status, 500)
      if (scene.kind === 'delay') assert.equal(first?.status, KEPT)
      if (scene.kind === 'kill') assert.equal(first, undefined)
      told(scene, first?.status === KEPT ? 'event' : 'maybe event', stepId)
      if (first?.status !== KEPT) {
        // It may have been kept, and the execution may have ended by it.
        const again = await askAgain(scene.other, pathOf(stepId), payloadOf(scene), [KEPT, 409])
        if (again.status === KEPT) told(scene, 'event', stepId)
        const after = await post(scene.other.url, pathOf(stepId), payloadOf(scene))
        if (after.status === KEPT) told(scene, 'event', stepId)
        else assert.equal(after.status, 409)
      }
      await endsAs('completed')(scene)
    },
  },
]
