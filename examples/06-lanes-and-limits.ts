/** A key is a lane of its own: first in, first out within it, fair among keys, and limited one by one. */
import { setTimeout as rest } from 'node:timers/promises'
import { createPod, defineStep } from 'fleet-q'
import { createClient } from 'fleet-q/client'
import { z } from 'zod'

const order: string[] = []
const running = new Map<string, number>()
let together = 0

const sync = defineStep('sync', { input: z.object({ who: z.string(), n: z.int() }) }, async ({ who, n }) => {
  order.push(`${who}${n}`)
  running.set(who, (running.get(who) ?? 0) + 1)
  together = Math.max(together, ...running.values())
  await rest(30)
  running.set(who, (running.get(who) ?? 0) - 1)
})

const { DATABASE_URL } = process.env
const settings = {
  DATABASE_URL,
  FLEET_Q_API_PORT: '0',
  FLEET_Q_MAX_PARALLELISM: '3',
  FLEET_Q_CAPACITY_PERCENT: '100',
}
const pod = await createPod({ steps: [sync], silent: true, settings })
const client = createClient({ baseUrl: `http://127.0.0.1:${pod.address.port}` })

// At most one of each key at once, in the whole fleet.
await client.setLimit({ type: 'sync', max_running_per_key: 1 })
await client.pause({ type: 'sync', reason: 'until all are submitted' })

const step = (who: string, n: number) => ({ type: 'sync', args: { who, n }, key: who })
const big = Array.from({ length: 20 }, (_, i) => step('a', i + 1))
const small = [step('b', 1), step('b', 2)]
const { step_ids } = await client.submitBatch({ steps: [...big, ...small] })
await client.resume({ type: 'sync' })
for (const id of step_ids) await client.waitFor(id)

const ofA = order.filter((name) => name.startsWith('a'))
console.log('of a:', ofA.join(' '))
console.log(
  'in the order of their submit:',
  ofA.every((name, i) => name === `a${i + 1}`),
)
console.log('b had to wait for all of a:', order.indexOf('b2') > order.indexOf('a20'))
console.log('of one key at once:', together)

await pod.stop()

/* It prints:
of a: a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 a11 a12 a13 a14 a15 a16 a17 a18 a19 a20
in the order of their submit: true
b had to wait for all of a: false
of one key at once: 1
*/
