/** A submit that is repeated makes one step; a handler that is repeated charges once. */
import { createPod, defineStep } from 'fleet-q'
import { createClient, FleetQError } from 'fleet-q/client'
import { z } from 'zod'

/** Stands for a bank that knows the keys it has seen. */
const booked = new Map<string, number>()

const charge = defineStep('charge', { input: z.object({ cents: z.int() }) }, ({ cents }, ctx) => {
  if (!booked.has(ctx.idempotencyKey)) booked.set(ctx.idempotencyKey, cents)
  if (ctx.attempt === 1) throw new Error('the answer of the bank was lost')
  return { attempts: ctx.attempt }
})

const { DATABASE_URL } = process.env
const pod = await createPod({
  steps: [charge],
  silent: true,
  settings: { DATABASE_URL, FLEET_Q_API_PORT: '0' },
})
const client = createClient({ baseUrl: `http://127.0.0.1:${pod.address.port}` })

const idempotency_key = `order-${crypto.randomUUID()}` // yours would name the order
const order = { type: 'charge', args: { cents: 1999 }, retry: { base_ms: 10 }, idempotency_key }
const first = await client.submitStep(order)
const again = await client.submitStep(order)
console.log('the same step:', first.step_id === again.step_id)

try {
  await client.submitStep({ ...order, args: { cents: 1 } })
} catch (error) {
  if (error instanceof FleetQError) console.log('another body:', error.status, error.error_type)
}

console.log((await client.waitFor(first.step_id)).result, 'booked', booked.size)

await pod.stop()

/* It prints:
the same step: true
another body: 409 conflict
{ attempts: 2 } booked 1
*/
