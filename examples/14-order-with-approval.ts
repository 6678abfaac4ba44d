/** An order is charged, waits for somebody's word without holding anything, and is shipped or paid back. */
import { setTimeout as rest } from 'node:timers/promises'
import { createPod, defineStep, NonRetryableError } from 'fleet-q'
import { createClient } from 'fleet-q/client'
import { z } from 'zod'

/** Stands for a bank that knows the keys it has seen: a body runs at least once, so it hands one out. */
const booked = new Map<string, number>()

const Approval = z.object({ by: z.string(), granted: z.boolean() })
const Parcel = z.object({ shipped: z.string() })

const order = defineStep('order', { input: z.object({ cents: z.int() }) }, async ({ cents }, ctx) => {
  const key = ctx.idempotencyKey
  await ctx.run('charge', () => void booked.set(`charge ${key}`, cents), { retry: { max: 5 } })
  await ctx.onFailure('refund', () => void booked.set(`refund ${key}`, -cents))
  const { by, granted } = await ctx.waitForEvent('approval', { schema: Approval, timeout: '7 days' })
  if (!granted) throw new NonRetryableError(`${by} refused it`)
  const parcel = await ctx.submit('parcel', { type: 'ship', args: { cents } })
  return { approved_by: by, ...Parcel.parse(await parcel.result()) }
})

const ship = defineStep('ship', { input: z.object({ cents: z.int() }) }, ({ cents }) => ({
  shipped: cents > 10_000 ? 'insured' : 'by letter',
}))

const { DATABASE_URL } = process.env
const pod = await createPod({
  steps: [order, ship],
  silent: true,
  settings: { DATABASE_URL, FLEET_Q_API_PORT: '0' },
})
const client = createClient({ baseUrl: `http://127.0.0.1:${pod.address.port}` })

async function decide(cents: number, approval: z.input<typeof Approval>) {
  // The same id started again is the same execution; yours would name the order.
  const execution_id = `order-${crypto.randomUUID()}`
  await client.startExecution({ execution_id, task_name: 'order', payload: { cents } })
  while ((await client.getExecution({ execution_id })).waiting_for.length === 0) await rest(20)
  // The pod may end now, and the order still waits: this could be next week, and another pod.
  await client.sendEvent({ execution_id, event_name: 'approval', payload: approval })
  const { status, result, error } = await client.waitForExecution({ execution_id })
  console.log(status, result ?? error?.message)
}

await decide(1999, { by: 'Ada', granted: true })
await decide(50_000, { by: 'Grace', granted: false })
console.log([...booked.values()])

await pod.stop()

/* It prints:
completed { shipped: 'by letter', approved_by: 'Ada' }
failed Grace refused it
[ 1999, 50000, -50000 ]
*/
