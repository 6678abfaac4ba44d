import { setTimeout as sleep } from 'node:timers/promises'
import { call } from '../support/http.ts'
import { createRandom } from './random.ts'
import type { World } from './world.ts'

/** Steps over HTTP, in batches that are sent again until they are accepted. */
export interface Load {
  readonly accepted: number
  /** Steps a second from now on. */
  pace(rate: number): void
  stop(): Promise<void>
}

const BATCH = 100
const CALLERS = 6
const CALL_LIMIT_MS = 8000
const REST_MS = 50

export function startLoad(world: World): Load {
  const random = createRandom(1)
  let accepted = 0
  let sent = 0
  let rate = 0
  let pacedAt = performance.now()
  let sentBefore = 0
  let stopped = false

  function wish(n: number) {
    const share = random.next()
    const step = (type: string, args: object) => ({ type, args: { op: `s${n}`, ...args }, max_retries: 20 })
    if (share < 0.8) return step('plain', {})
    if (share < 0.95) return step('slow', { ms: random.between(5, 50) })
    return step('flaky', { n: 1 })
  }

  async function submit(first: number) {
    const steps = Array.from({ length: BATCH }, (_, i) => wish(first + i))
    for (;;) {
      const slot = world.podBy(random.next())
      const reply =
        slot?.pod &&
        (await call(
          slot.pod.url,
          'POST',
          '/submit/batch',
          { steps },
          { 'idempotency-key': `batch ${first}` },
          CALL_LIMIT_MS,
        ).catch(() => undefined))
      if (reply?.status === 201 || reply?.status === 200) break
      await sleep(REST_MS)
    }
    accepted += BATCH
  }

  async function caller() {
    while (!stopped) {
      const due = sentBefore + ((performance.now() - pacedAt) / 1000) * rate
      if (sent + BATCH > due) await sleep(REST_MS / 2)
      else {
        sent += BATCH
        await submit(sent - BATCH)
      }
    }
  }

  const callers = Promise.all(Array.from({ length: CALLERS }, caller))
  return {
    get accepted() {
      return accepted
    },
    pace(next) {
      rate = next
      pacedAt = performance.now()
      sentBefore = sent
    },
    async stop() {
      stopped = true
      await callers
    },
  }
}
