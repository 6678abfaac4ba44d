import assert from 'node:assert/strict'
import { lifeOf } from '../recovery/fleet.ts'
import { makePod } from '../recovery/rows.ts'
import { until } from '../support/until.ts'
import { WAIT_MS } from './fleet.ts'
import { accepted, ask, goesOff, newOp, type Operation, type Scene } from './scene.ts'

/** What a leader does: accede, declare dead and put back, forget. */

/** A pod that fell silent a minute ago with two steps in its hands, of which one has no attempt left. */
async function leaveOrphans(scene: Scene) {
  const { sql } = scene
  const ops = [newOp(scene), newOp(scene)]
  const steps = await sql.begin(async (tx) => {
    const podId = await makePod(tx, { name: 'victim', silentMs: 60_000, deadAfterMs: 2000 })
    return tx<{ id: string; op: string }[]>`
      with made as (
        insert into fleet_q.steps (salt, lane_id, max_retries, args)
        select n, fleet_q.lane_of('plain', 0, ''), n * 3, jsonb_build_object('op', (${ops}::text[])[n + 1])
        from generate_series(0, 1) as n
        returning id, salt, created_at, args
      ),
      claimed as (
        insert into fleet_q.claims (pod_id, step_ids, attempts)
        select ${podId}, array_agg(id order by id), '{1,1}' from made
      )
      select fleet_q.step_public_id(id, salt, created_at) as id, args ->> 'op' as op from made order by id`
  })
  for (const { id, op } of steps) accepted(scene, op, id)
}

/** The leader stands behind all others, so that the armed pod accedes. */
async function moveTheLead(scene: Scene) {
  const { sql, other } = scene
  const bench = (until: string | null) => sql`
    update fleet_q.pods set benched_until = fleet_q.clock() + ${until}::interval where public_id = ${other.id}`
  await bench('1 hour')
  await goesOff(scene)
  await bench(null)
}

const OLD = 3

export const leading: Operation[] = [
  {
    name: 'a recovery',
    places: ['recovery.declared', 'recovery.between', 'recovery.before_commit', 'recovery.after_commit'],
    role: 'leader',
    async drive(scene) {
      scene.arm()
      await leaveOrphans(scene)
      await goesOff(scene)
    },
    async after(scene) {
      const [doomed = '', saved = ''] = scene.stepIds
      await until(
        'both to be dealt with',
        async () => {
          const [lost, done] = [await lifeOf(scene.sql, doomed), await lifeOf(scene.sql, saved)]
          return lost.reason === 'dead_pod' && done.status === 'completed' && done.attempt === 2
        },
        WAIT_MS,
      )
    },
  },
  {
    name: 'a recovery that somebody asked for',
    places: ['recovery.before_answer'],
    role: 'leader',
    async drive(scene) {
      scene.arm()
      const gone = goesOff(scene)
      // The other runs it itself as long as it has not heard that it leads no more.
      while (!scene.isOff()) {
        scene.reply = ask(scene.other, '/admin/recovery/run', { relay: true, force: true })
        await Promise.race([scene.reply, gone])
      }
    },
    async after({ reply }) {
      assert.equal((await reply)?.status, 200, 'whoever leads answers')
    },
  },
  {
    name: 'an accession',
    places: ['term.between', 'term.begun'],
    role: 'follower',
    async drive(scene) {
      scene.arm()
      await moveTheLead(scene)
    },
  },
  {
    name: 'retention',
    places: ['retention.before', 'retention.after'],
    role: 'novice',
    async drive(scene) {
      scene.arm()
      await scene.sql`
        with made as (
          insert into fleet_q.steps (salt, lane_id, max_retries, args)
          select n, fleet_q.lane_of('plain', 0, ''), 0, jsonb_build_object('op', ${`harm-${scene.name}`}::text)
          from generate_series(1, ${OLD}::int) as n
          returning id
        )
        insert into fleet_q.outcomes (step_id, status, attempt, settled_at)
        select id, 'cancelled', 0, fleet_q.clock() - interval '8 days' from made`
      await moveTheLead(scene)
    },
    async after({ sql, name, kind }) {
      const left = async () => {
        const rows = await sql`
          select exists (select from fleet_q.outcomes where step_id = steps.id) as settled
          from fleet_q.steps where args ->> 'op' = ${`harm-${name}`}`
        return rows.map((row) => row['settled'] === true)
      }
      assert.ok([0, OLD].includes((await left()).length), 'all of them, or none')
      assert.ok((await left()).every(Boolean), 'forgotten by halves')
      if (kind === 'delay')
        await until('the old to be forgotten', async () => (await left()).length === 0, WAIT_MS)
      // A leader forgets once a minute. What is left goes, and the audit need not know that outcomes went.
      await sql`
        with gone as (delete from fleet_q.steps where args ->> 'op' = ${`harm-${name}`} returning id)
        delete from fleet_q.outcomes where step_id in (select id from gone)`
      await sql`
        delete from chaos.audit
        where step_id is not null and not exists (select from fleet_q.steps where steps.id = audit.step_id)`
    },
  },
]
