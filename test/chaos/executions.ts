import { setTimeout as sleep } from 'node:timers/promises'
import { API_PREFIX } from '../../src/http/specs/executions.ts'
import type { Caller } from './caller.ts'
import { createRandom } from './random.ts'

/** Executions, each with a client of its own: starts it under an id, sends it what it waits for, and may cancel it. */
export interface Executions {
  readonly accepted: number
  /** Fulfilled when all are started, and all was sent to them. */
  run(): Promise<void>
}

interface Wish {
  task_name: string
  payload: { op: string; ms: number; n: number }
  events: { name: string; afterMs: number; times: number }[]
  cancelAfterMs: number | undefined
}

/** The same execution for the same number, whatever happened before. */
export function drawExecution(seed: number, n: number): Wish {
  const random = createRandom(seed * 1_000_033 + n)
  const task = random.pick(['remembers', 'remembers', 'waits', 'waits', 'parent', 'beside', 'saga'])
  const payload = { op: `x${n}`, ms: random.between(10, 2500), n: random.between(0, 5) }
  const event = (name: string, afterMs: number) => ({ name, afterMs, times: random.next() < 0.2 ? 2 : 1 })
  const events: Wish['events'] = []
  // Before it is asked for, while the pod looks, or long after.
  const sometime = () => random.pick([0, 0, random.between(5, 100), random.between(100, 4000)])
  if (task === 'waits') {
    events.push(event('go', sometime()))
    // About when it waits no longer.
    events.push(event('maybe', payload.ms + random.between(0, payload.ms)))
  }
  if (task === 'beside') events.push(event('go', payload.ms * random.between(1, 4)))
  if (task === 'saga' && payload.n % 2 === 0) events.push(event('go', sometime()))
  return {
    task_name: task,
    payload,
    events,
    cancelAfterMs: random.next() < 0.06 ? random.between(0, payload.ms * 2) : undefined,
  }
}

/** It has ended, or was cancelled: nobody reads it. */
const TOO_LATE = [404, 409]
/**
 * So many starts are asked for at once. With no bound they piled up behind a fault: five thousand that all tried again took
 * the processor of this process, which is also every pod's network, and no fault ended any more.
 */
const STARTING_MAX = 32
/** As often as pods are killed: poison takes it out after three at one place. */
const MAX_RETRIES = 20

export function createExecutions(
  { told, note, ask, insist, strange }: Caller,
  plan: { seed: number; executions: number; minutes: number },
): Executions {
  const random = createRandom(plan.seed + 2)
  const dice = () => random.next()
  let accepted = 0
  let starting = 0

  async function live(n: number) {
    const { task_name, payload, events, cancelAfterMs } = drawExecution(plan.seed, n)
    const { op } = payload
    starting++
    const { body } = await insist({
      op,
      path: `${API_PREFIX}/executions`,
      // What a saga fails of, it fails of again.
      body: { execution_id: op, task_name, payload, max_retries: task_name === 'saga' ? 2 : MAX_RETRIES },
      dice,
    })
    starting--
    const stepId = String(body['step_id'])
    told.push({ op, f: 'submit', stepId, at: new Date() })
    note({ type: 'ok', op, id: stepId })
    accepted++
    await Promise.all([
      ...events.map((event) => send(op, stepId, event)),
      cancelAfterMs === undefined ? undefined : cancel(op, stepId, cancelAfterMs),
    ])
  }

  async function send(op: string, stepId: string, { name, afterMs, times }: Wish['events'][number]) {
    await sleep(afterMs)
    for (let time = 1; time <= times; time++) {
      const id = `${op}/${name}/${time}`
      const tell = (f: 'event' | 'maybe event') => told.push({ op: id, f, stepId, at: new Date() })
      const { status } = await insist({
        op: id,
        path: `${API_PREFIX}/events/${op}/${name}`,
        body: { id },
        good: [202, ...TOO_LATE],
        onUnknown: () => tell('maybe event'),
        dice,
      })
      if (status === 202) tell('event')
      note({ type: 'ok', op: id, status })
    }
  }

  async function cancel(op: string, stepId: string, afterMs: number) {
    await sleep(afterMs)
    note({ type: 'invoke', op, f: 'cancel' })
    const reply = await ask(dice(), `/steps/${stepId}/cancel`, {})
    note({ type: reply ? 'ok' : 'info', op, f: 'cancel', status: reply?.status })
    if (reply?.status === 200) told.push({ op, f: 'cancel', stepId, at: new Date() })
    else if (reply && ![...TOO_LATE, 503].includes(reply.status))
      strange.push(`cancel answered ${reply.status}: ${JSON.stringify(reply.body).slice(0, 300)}`)
  }

  return {
    get accepted() {
      return accepted
    },
    async run() {
      const startedAt = performance.now()
      const lives: Promise<void>[] = []
      for (let n = 0; n < plan.executions; n++) {
        const early = startedAt + (n / plan.executions) * plan.minutes * 60_000 - performance.now()
        if (early > 0) await sleep(early)
        while (starting >= STARTING_MAX) await sleep(20)
        lives.push(live(n))
      }
      await Promise.all(lives)
    },
  }
}
