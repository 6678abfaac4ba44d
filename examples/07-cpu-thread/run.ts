/** Handlers in threads. They come from a folder, so that a thread can load them again. */
import { createPod } from 'fleet-q'
import { createClient } from 'fleet-q/client'

const { DATABASE_URL } = process.env
const FLEET_Q_HANDLERS = `${import.meta.dirname}/steps`
const pod = await createPod({
  silent: true,
  settings: { DATABASE_URL, FLEET_Q_HANDLERS, FLEET_Q_API_PORT: '0' },
})
const client = createClient({ baseUrl: `http://127.0.0.1:${pod.address.port}` })

const counted = await client.submitStep({ type: 'primes', args: { up_to: 1_000_000 } })
console.log((await client.waitFor(counted.step_id)).result)

const endless = await client.submitStep({ type: 'endless', args: {}, max_retries: 0 })
const { status, error } = await client.waitFor(endless.step_id)
console.log(status, error?.message)
console.log('the pod answers:', (await client.getHealth()).status)

await pod.stop()

/* It prints:
{ found: 78498 }
failed the attempt did not end within 0.3 s
the pod answers: healthy
*/
