import { createWriteStream } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { call, type Reply } from '../support/http.ts'
import { createRandom } from './random.ts'
import type { World } from './world.ts'

/**
 * A client that does not give up: every submit has a key, and is sent again until it is accepted. What it asked and
 * what it was told goes into its history.
 */
export interface Client {
  readonly accepted: number
  readonly told: Told[]
  /** Answers that no fault explains: neither 2xx, nor 503, nor what an operator's call may say. */
  readonly strange: string[]
  /** Fulfilled when all steps are accepted. */
  run(): Promise<void>
}

export interface Told {
  op: string
  f: 'submit' | 'cancel' | 'retry'
  stepId: string
  at: Date
}

const BATCH = 250
const CALLERS = 4
/** A call that got lost in a network is given up by then; whether it was done, nobody knows. */
const CALL_LIMIT_MS = 8000
const REST_MS = 50

interface StepWish {
  type: string
  args: { op: string; ms?: number; n?: number }
  max_retries: number
  [field: string]: unknown
}

/** The same step for the same number, whatever happened before. */
function wish(seed: number, n: number): StepWish {
  const random = createRandom(seed * 1_000_003 + n)
  const args = { op: `s${n}` }
  const share = random.next()
  // A step that dies with its pod may do so as often as pods are killed: poison takes it out after three.
  const step = (type: string, more: object = {}, wishes: object = {}): StepWish => ({
    type,
    args: { ...args, ...more },
    max_retries: 20,
    priority: random.pick([0, 0, 0, 0, 5, -5]),
    ...wishes,
  })
  // Long in their first attempt: what a pod holds when it is killed.
  if (share < 0.02) return step('long', { ms: random.between(2000, 10_000) })
  if (share < 0.6) return step('plain')
  if (share < 0.72) return step('ledger', { n })
  if (share < 0.75) return step('ledger', { n, ms: random.between(5, 300) })
  if (share < 0.8) return step('effect')
  if (share < 0.86) return step('flaky', { n: random.between(1, 3) }, { max_retries: random.between(1, 4) })
  if (share < 0.88) return step('refuses')
  if (share < 0.92) return step('slow', { ms: random.between(20, 800) })
  if (share < 0.925) return step('limited', { ms: random.between(1, 5) })
  if (share < 0.94) return step('single', { ms: random.between(1, 5) }, { key: `k${random.between(1, 20)}` })
  if (share < 0.97) return step('plain', {}, { delay_seconds: random.between(1, 6) })
  return step('plain', {}, { key: `lane${random.between(1, 30)}` })
}

export function createClient(
  world: World,
  plan: { seed: number; steps: number; minutes: number },
  historyFile: string,
): Client {
  const history = createWriteStream(historyFile)
  const note = (line: object) => void history.write(`${JSON.stringify({ at: Date.now(), ...line })}\n`)
  const told: Told[] = []
  const strange: string[] = []
  let accepted = 0
  let next = 0
  const random = createRandom(plan.seed + 1)

  /** Undefined: nobody knows whether it was done. */
  async function ask(method: string, path: string, body: unknown, key?: string): Promise<Reply | undefined> {
    const slot = world.podBy(random.next())
    if (!slot?.pod) return undefined
    return call(
      slot.pod.url,
      method,
      path,
      body,
      key === undefined ? {} : { 'idempotency-key': key },
      CALL_LIMIT_MS,
    ).catch(() => undefined)
  }

  async function until2xx(op: string, path: string, body: unknown): Promise<Reply> {
    for (;;) {
      note({ type: 'invoke', op, path })
      const reply = await ask('POST', path, body, op)
      if (reply && (reply.status === 201 || reply.status === 200)) return reply
      note({ type: 'info', op, status: reply?.status })
      if (reply && reply.status !== 503)
        strange.push(`${path} answered ${reply.status}: ${JSON.stringify(reply.body).slice(0, 300)}`)
      await sleep(REST_MS)
    }
  }

  async function submitNext() {
    const first = next
    const count = Math.min(BATCH, plan.steps - first)
    next += count
    const steps = Array.from({ length: count }, (_, i) => wish(plan.seed, first + i))
    // A few by themselves: their inserts are shared with those of other callers.
    const alone = steps.splice(0, 5)
    const [many] = await Promise.all([
      steps.length > 0 ? until2xx(`b${first}`, '/submit/batch', { steps }) : undefined,
      ...alone.map(async (step) => {
        const reply = await until2xx(step.args.op, '/submit', step)
        keep([step], [String(reply.body['step_id'])])
      }),
    ])
    if (many) keep(steps, many.body['step_ids'] as string[])
    if (random.next() < 0.3) await meddle()
  }

  function keep(steps: StepWish[], ids: string[]) {
    const at = new Date()
    steps.forEach((step, i) => told.push({ op: step.args.op, f: 'submit', stepId: ids[i] ?? 'none', at }))
    note({ type: 'ok', ops: steps.map((step) => step.args.op), ids })
    accepted += steps.length
  }

  /** Cancels one of the latest steps, or tries one again. */
  async function meddle() {
    const one = told[told.length - 1 - Math.floor(random.next() * Math.min(told.length, 1000))]
    if (!one || one.f !== 'submit') return
    const verb = random.pick(['cancel', 'cancel', 'retry'] as const)
    note({ type: 'invoke', op: one.op, f: verb })
    const reply = await ask('POST', `/steps/${one.stepId}/${verb}`, {})
    note({ type: reply ? 'ok' : 'info', op: one.op, f: verb, status: reply?.status })
    if (reply?.status === 200) told.push({ ...one, f: verb, at: new Date() })
    // 409: it has ended, or it has not; whoever meddles may come too late.
    else if (reply && ![404, 409, 503].includes(reply.status))
      strange.push(`${verb} answered ${reply.status}: ${JSON.stringify(reply.body).slice(0, 300)}`)
  }

  async function caller(startedAt: number) {
    while (next < plan.steps) {
      const due = startedAt + (next / plan.steps) * plan.minutes * 60_000
      const early = due - performance.now()
      if (early > 0) {
        await sleep(Math.min(early, 200))
        continue
      }
      await submitNext()
    }
  }

  return {
    get accepted() {
      return accepted
    },
    told,
    strange,
    async run() {
      const startedAt = performance.now()
      await Promise.all(Array.from({ length: CALLERS }, () => caller(startedAt)))
      await new Promise((resolve) => history.end(resolve))
    },
  }
}
