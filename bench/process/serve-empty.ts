import { createServer } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'

/** The limit of the HTTP row: the same server stack, and a route that reads its body and does nothing. */
export async function serveEmpty(): Promise<{ address: string }> {
  const app = new Hono()
  app.post('/submit', async (context) => {
    await context.req.json()
    return context.json({ step_id: 'step_20260101000000_0000000000000', status: 'submitted', message: 'ok' })
  })
  const listener = getRequestListener(app.fetch)
  const server = createServer((incoming, outgoing) => void listener(incoming, outgoing))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  return { address: `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}` }
}
