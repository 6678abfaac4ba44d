import { setTimeout as sleep } from 'node:timers/promises'
import type { Caller } from './caller.ts'
import { createRandom } from './random.ts'

/** A client of plain steps: every submit has a key, and is sent again until it is accepted. */
export interface Client {
  readonly accepted: number
  /** Fulfilled when all steps are accepted. */
  run(): Promise<void>
}

const BATCH = 250
const CALLERS = 4

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
  { told, strange, note, ask, insist }: Caller,
  plan: { seed: number; steps: number; minutes: number },
): Client {
  let accepted = 0
  let next = 0
  const random = createRandom(plan.seed + 1)
  const dice = () => random.next()

  async function submitNext() {
    const first = next
    const count = Math.min(BATCH, plan.steps - first)
    next += count
    const steps = Array.from({ length: count }, (_, i) => wish(plan.seed, first + i))
    // A few by themselves: their inserts are shared with those of other callers.
    const alone = steps.splice(0, 5)
    const batch = `b${first}`
    const [many] = await Promise.all([
      steps.length > 0
        ? insist({ op: batch, key: batch, path: '/submit/batch', body: { steps }, dice })
        : undefined,
      ...alone.map(async (step) => {
        const { op } = step.args
        const reply = await insist({ op, key: op, path: '/submit', body: step, dice })
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

  /** Cancels one of the latest steps, or tries one again. Executions have plans of their own for that. */
  async function meddle() {
    const one = told[told.length - 1 - Math.floor(random.next() * Math.min(told.length, 1000))]
    if (!one || one.f !== 'submit' || !one.op.startsWith('s')) return
    const verb = random.pick(['cancel', 'cancel', 'retry'] as const)
    note({ type: 'invoke', op: one.op, f: verb })
    const reply = await ask(random.next(), `/steps/${one.stepId}/${verb}`, {})
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
    async run() {
      const startedAt = performance.now()
      await Promise.all(Array.from({ length: CALLERS }, () => caller(startedAt)))
    },
  }
}
