/** A service that is its own pod: an HTTP server of yours, and handlers in the same process. */
import { serve } from '@hono/node-server'
import { createPod, defineStep } from 'fleet-q'
import { createClient } from 'fleet-q/client'
import { Hono } from 'hono'
import { z } from 'zod'

const thumbnail = defineStep('thumbnail', { input: z.object({ image: z.string() }) }, ({ image }) => ({
  thumbnail: image.replace('.png', '.small.png'),
}))

const { DATABASE_URL } = process.env
const pod = await createPod({
  steps: [thumbnail],
  silent: true,
  settings: { DATABASE_URL, FLEET_Q_API_PORT: '0' },
  // The fleet took this pod for dead: the process ends, and comes back as a new pod.
  onFenced: () => process.exit(1),
})
const queue = createClient({ baseUrl: `http://127.0.0.1:${pod.address.port}` })

const app = new Hono()
app.post('/images/:name', async (context) => {
  const { step_id } = await queue.submitStep({
    type: 'thumbnail',
    args: { image: context.req.param('name') },
  })
  return context.json({ step_id }, 202)
})
app.get('/images/:step_id', async (context) => {
  const { status, result } = await queue.waitFor(context.req.param('step_id'))
  return context.json({ status, result })
})

const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' })
await new Promise((resolve) => server.once('listening', resolve))

/** First no new requests, then the pod: it finishes what it can and gives the rest back. */
async function stop() {
  await new Promise((done) => server.close(done))
  await pod.stop()
}
process.once('SIGTERM', () => void stop().then(() => process.exit(0)))

// What a customer of this service would do:
const address = server.address()
const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/images`
const accepted = await fetch(`${url}/cat.png`, { method: 'POST', headers: { connection: 'close' } })
const { step_id } = z.object({ step_id: z.string() }).parse(await accepted.json())
const answer = await fetch(`${url}/${step_id}`, { headers: { connection: 'close' } })
console.log(accepted.status, await answer.json())

await stop()

/* It prints:
202 { status: 'completed', result: { thumbnail: 'cat.small.png' } }
*/
