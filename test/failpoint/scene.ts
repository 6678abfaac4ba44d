import type postgres from 'postgres'
import type { Place } from '../../src/kernel/failpoint.ts'
import { heldBy } from '../recovery/fleet.ts'
import { spell, type Action } from '../support/arm.ts'
import { call, type Reply } from '../support/http.ts'
import { until } from '../support/until.ts'
import { WAIT_MS, type ArmedPod, type Fleet, type Role } from './fleet.ts'

/** Something that a fleet does, and the places that it comes past. */
export interface Operation {
  /** Completes "in the middle of". */
  name: string
  places: Place[]
  role: Role
  /** Arms the pod and does it, until the failpoint goes off. */
  drive(scene: Scene): Promise<void>
  /** When the pod's fate is known: its caller asks again, say. */
  after?(scene: Scene): Promise<void>
  /** The pod ends by it, whatever happens: it was asked to. */
  ends?: boolean
  /** The other pod claims nothing until it has gone off. */
  alone?: boolean
  /** When it goes off, the pod holds steps. */
  holds?: boolean
}

/** Once over the stage: one place, one action. */
export interface Scene {
  fleet: Fleet
  sql: postgres.Sql
  armed: ArmedPod
  other: ArmedPod
  place: Place
  kind: Kind
  /** Unlike that of any other. */
  name: string
  /** `first`: more failpoints, which are on the way to this one. */
  arm(first?: string): void
  isOff(): boolean
  /** What the armed pod answered to what it was asked; undefined where it never did. */
  reply?: Promise<Reply | undefined>
  /** Callers that were at it when it went off, and do not give up. */
  working?: Promise<void>
  /** Steps of this scene. */
  stepIds: string[]
}

export const KINDS = ['kill', 'stop', 'throw', 'delay'] as const
export type Kind = (typeof KINDS)[number]

/** Shorter than the 1.8 s after which a pod without a confirmed beat claims nothing more: nobody may notice. */
const ACTIONS: Record<Kind, Action> = { kill: 'kill', stop: 'stop', throw: 'throw', delay: 'delay:400' }
/** A pod that was frozen does not answer at all. */
const CALL_LIMIT_MS = 2000
const TIMES_MAX = 20

export const spellOf = (place: Place, kind: Kind) => spell(place, ACTIONS[kind])

let scenes = 0

export function setScene(
  fleet: Fleet,
  cast: { armed: ArmedPod; other: ArmedPod },
  place: Place,
  kind: Kind,
): Scene {
  const { armed } = cast
  const printed = armed.output().length
  return {
    fleet,
    sql: fleet.sql,
    ...cast,
    place,
    kind,
    name: `scene${scenes++}`,
    arm: (first = '') => armed.arm(`${first} ${spellOf(place, kind)}`),
    isOff: () => armed.output().slice(printed).includes(`failpoint ${place}: ${ACTIONS[kind]}\n`),
    stepIds: [],
  }
}

/** Undefined: nobody knows whether it was done. */
export const ask = (pod: ArmedPod, path: string, body: object, limitMs = WAIT_MS) =>
  call(pod.url, 'POST', path, body, {}, limitMs).catch(() => undefined)

/** As callers do: of another pod, again and again, until there is an answer that one can live with. */
export const askAgain = (pod: ArmedPod, path: string, body: object, good = [200, 201]) =>
  until(
    `a good answer of ${path}`,
    async () => {
      const reply = await ask(pod, path, body)
      return reply && good.includes(reply.status) && reply
    },
    WAIT_MS,
  )

export function accepted(scene: Scene, op: string, stepId: string) {
  scene.stepIds.push(stepId)
  scene.fleet.told.push({ op, f: 'submit', stepId, at: new Date() })
}

let ops = 0
export const newOp = (scene: Scene) => `${scene.name}-${ops++}`

interface Wish {
  type: string
  args?: object
  [field: string]: unknown
}

/** By a caller that does not give up: of the armed pod, and of the other where that does not answer. */
export async function submit(scene: Scene, { args, ...wish }: Wish): Promise<string> {
  const op = newOp(scene)
  const retry = { base_ms: 50, max_ms: 200 }
  const body = { args: { op, ...args }, idempotency_key: op, retry, ...wish }
  const reply =
    (await ask(scene.armed, '/submit', body, CALL_LIMIT_MS).then((first) =>
      first?.status === 201 ? first : undefined,
    )) ?? (await askAgain(scene.other, '/submit', body))
  const stepId = String(reply.body['step_id'])
  accepted(scene, op, stepId)
  return stepId
}

export const submitMany = (scene: Scene, count: number, wish: Wish) =>
  Promise.all(Array.from({ length: count }, () => submit(scene, wish)))

const isDone = async ({ sql }: Scene, stepIds: string[]) => {
  const [row] = await sql<{ n: number }[]>`
    select count(*)::int as n from unnest(${stepIds}::text[]) as asked (id)
    join fleet_q.outcomes on outcomes.step_id = fleet_q.step_key(asked.id)`
  return row?.n === stepIds.length
}

/** Does it again and again: the other pod may be faster, and not each time does the armed one come that way. */
export async function untilItGoesOff(scene: Scene, work: () => Promise<string[]>) {
  for (let time = 1; !scene.isOff(); time++) {
    if (time > TIMES_MAX) throw new Error(`${scene.place} never went off`)
    let stepIds: string[] | undefined
    // A pod that was frozen answers late: what it held is looked up at once.
    scene.working = work().then((ids) => {
      stepIds = ids
    })
    scene.working.catch(() => {})
    await until(
      `${scene.place} to go off, or the steps to be done`,
      async () => scene.isOff() || (stepIds !== undefined && (await isDone(scene, stepIds))),
      WAIT_MS,
    )
  }
}

export async function goesOff(scene: Scene) {
  const { place, armed } = scene
  try {
    await until(`${place} to go off`, scene.isOff, WAIT_MS)
  } catch (cause) {
    throw new Error(`${place} never went off; the pod printed:\n${armed.output().slice(-3000)}`, { cause })
  }
}

/** Steps that run in the armed pod for a while. */
export async function fillHands(scene: Scene, ms: number) {
  await submitMany(scene, 4, { type: 'slow', args: { ms } })
  await until('it to hold some', async () => (await heldBy(scene.sql, scene.armed)).length > 0, WAIT_MS)
}
