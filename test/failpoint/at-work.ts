import { until } from '../support/until.ts'
import { WAIT_MS } from './fleet.ts'
import {
  fillHands,
  goesOff,
  submit,
  submitMany,
  untilItGoesOff,
  type Operation,
  type Scene,
} from './scene.ts'

/** What a pod does with steps, from the claim to the settle. */

const some = (scene: Scene, type: string, args: object) => () => submitMany(scene, 6, { type, args })

/** An exchange is answered to nobody, so that its claims are looked for; the places are on that way. */
async function loseAnAnswer(scene: Scene) {
  // It may be an exchange that claimed nothing whose answer is lost: then once more.
  await untilItGoesOff(scene, async () => {
    scene.arm('exchange.after=throw@1')
    return submitMany(scene, 3, { type: 'plain' })
  })
}

async function handlersTransaction(scene: Scene) {
  scene.arm()
  await untilItGoesOff(scene, some(scene, 'ledger', { n: 1, ms: 20 }))
}

export const atWork: Operation[] = [
  {
    name: 'an exchange with results',
    places: ['exchange.before', 'exchange.after'],
    role: 'follower',
    alone: true,
    holds: true,
    async drive(scene) {
      await fillHands(scene, 1500)
      scene.arm()
      await untilItGoesOff(scene, some(scene, 'slow', { ms: 50 }))
    },
  },
  {
    name: "an exchange of the leader's, with retries in it",
    places: ['exchange.before', 'exchange.after'],
    role: 'leader',
    alone: true,
    async drive(scene) {
      scene.arm()
      await untilItGoesOff(scene, some(scene, 'flaky', { n: 1 }))
    },
  },
  {
    name: "a handler's transaction",
    places: ['transaction.before_settle', 'transaction.before_commit'],
    role: 'follower',
    alone: true,
    holds: true,
    drive: handlersTransaction,
  },
  {
    // Its own step has its outcome by then, and those beside it may have theirs.
    name: "a handler's transaction that is committed",
    places: ['transaction.after_commit'],
    role: 'follower',
    alone: true,
    drive: handlersTransaction,
  },
  {
    name: 'a claim under a limit of the fleet',
    places: ['limited.before_commit', 'limited.after_commit'],
    role: 'follower',
    alone: true,
    async drive(scene) {
      scene.arm()
      await untilItGoesOff(scene, some(scene, 'limited', { ms: 20 }))
    },
  },
  {
    name: 'a search for claims that nobody was told of',
    places: ['stray.found', 'stray.released'],
    role: 'follower',
    alone: true,
    drive: loseAnAnswer,
  },
  {
    name: 'a heartbeat',
    places: ['beat.before', 'beat.after'],
    role: 'follower',
    alone: true,
    holds: true,
    async drive(scene) {
      await fillHands(scene, 1500)
      scene.arm()
      await goesOff(scene)
    },
  },
  {
    name: "a leader's heartbeat",
    places: ['beat.before', 'beat.after'],
    role: 'leader',
    async drive(scene) {
      await submitMany(scene, 4, { type: 'slow', args: { ms: 1000 } })
      scene.arm()
      await goesOff(scene)
    },
  },
  {
    name: 'a move of what is due',
    places: ['due.before', 'due.after'],
    role: 'leader',
    async drive(scene) {
      scene.arm()
      await untilItGoesOff(scene, async () => [await submit(scene, { type: 'plain', delay_seconds: 0.2 })])
    },
  },
  {
    name: 'its end',
    places: ['goodbye.draining', 'goodbye.before', 'goodbye.after'],
    role: 'leader',
    ends: true,
    alone: true,
    async drive(scene) {
      await fillHands(scene, 700)
      scene.arm()
      scene.armed.signal('SIGTERM')
      await goesOff(scene)
    },
    async after({ sql, other }) {
      await until(
        'the other pod to lead',
        async () => {
          const [row] = await sql`
            select 1 from fleet_q.leader_terms join fleet_q.pods on pods.id = pod_id
            where leader_terms.ended_at is null and public_id = ${other.id}`
          return row
        },
        WAIT_MS,
      )
    },
  },
]
