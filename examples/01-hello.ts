/** Defines a step, starts a pod that handles it, submits one and waits for its result. */
import { createPod, defineStep } from 'fleet-q'
import { createClient } from 'fleet-q/client'
import { z } from 'zod'

const greet = defineStep('greet', { input: z.object({ name: z.string() }) }, ({ name }, ctx) => {
  ctx.log.info(`greeting ${name}`)
  return { greeting: `Hello, ${name}!` }
})

// Without DATABASE_URL the pod brings a Postgres of its own. Port 0: any free one.
const { DATABASE_URL } = process.env
const pod = await createPod({
  steps: [greet],
  silent: true,
  settings: { DATABASE_URL, FLEET_Q_API_PORT: '0' },
})
const client = createClient({ baseUrl: `http://127.0.0.1:${pod.address.port}` })

const { step_id } = await client.submitStep({ type: 'greet', args: { name: 'Ada' } })
const { status, result } = await client.waitFor(step_id)
console.log(status, result)

await pod.stop()

/* It prints:
completed { greeting: 'Hello, Ada!' }
*/
