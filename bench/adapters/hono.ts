import { createServer } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import type { Adapter } from './adapter.ts'

/** The limit of the HTTP row: the same server stack, and a route that reads its body and does nothing. */

const none = () => Promise.resolve()
const refuse = () => Promise.reject(new Error('an empty route takes no jobs'))
const ANSWER = { step_id: 'step_20260101000000_0000000000000', status: 'submitted', message: 'ok' }

export const hono: Adapter = {
  name: 'hono',
  store: 'none',
  less: 'an empty route: reads the body, answers, stores nothing',
  profiles: {},
  drainJobs: 0,
  prepare: none,
  fill: none,
  async work() {
    const app = new Hono()
    app.post('/submit', async (context) => {
      await context.req.json()
      return context.json(ANSWER, 201)
    })
    const listener = getRequestListener(app.fetch)
    const server = createServer((incoming, outgoing) => void listener(incoming, outgoing))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    const port = typeof address === 'object' && address ? address.port : 0
    return { address: `http://127.0.0.1:${port}`, stop: () => Promise.resolve(void server.close()) }
  },
  produce: refuse,
  inspect: () => ({
    settled: () => Promise.resolve(true),
    tally: () => Promise.resolve({ ended: 0, left: 0, wrong: 0 }),
    close: none,
  }),
}
