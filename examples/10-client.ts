/** The typed client: submit, look, list, wait, and what an error looks like. */
import { createPod, defineStep } from 'fleet-q'
import { createClient, FleetQError } from 'fleet-q/client'
import { z } from 'zod'

const double = defineStep('double', { input: z.object({ n: z.int() }) }, ({ n }) => n * 2)

const { DATABASE_URL } = process.env
const pod = await createPod({
  steps: [double],
  silent: true,
  settings: { DATABASE_URL, FLEET_Q_API_PORT: '0' },
})

// In a service of yours this is all: an address, and a token where the fleet wants one.
const client = createClient({
  baseUrl: `http://127.0.0.1:${pod.address.port}`,
  timeoutMs: 10_000,
  retriesMax: 3,
})

const { step_ids } = await client.submitBatch({
  steps: [1, 2, 3].map((n) => ({ type: 'double', args: { n }, tags: ['example'], priority: n })),
})
const results = []
for (const id of step_ids) results.push((await client.waitFor(id)).result)
console.log('results', results)

const { steps } = await client.listSteps({ tag: 'example', status: 'completed', limit: 2 })
console.log(
  'the newest',
  steps.length,
  'have priority',
  steps.map(({ priority }) => priority),
)

try {
  await client.submitStep({ type: 'double', args: { n: 'one' } })
} catch (error) {
  if (!(error instanceof FleetQError)) throw error
  console.log(error.status, error.error_type, error.issues)
}

try {
  const { step_id } = await client.submitStep({ type: 'double', args: { n: 1 }, delay_seconds: 3600 })
  await client.waitFor(step_id, { timeoutMs: 200 })
} catch (error) {
  if (error instanceof FleetQError) console.log(error.error_type)
}

await pod.stop()

/* It prints:
results [ 2, 4, 6 ]
the newest 2 have priority [ 3, 2 ]
400 validation_error [
  {
    at: 'args.n',
    message: 'Invalid input: expected number, received string'
  }
]
timeout
*/
