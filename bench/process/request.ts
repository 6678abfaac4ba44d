import { Agent, request as send } from 'node:http'
import type { Job, Producer } from '../adapters/adapter.ts'
import type { RequestCall, Submitted } from './calls.ts'

/** So many connections that are kept alive, each of which asks again when it has its answer. */
export async function request({ url, method, body, connections, ms }: RequestCall): Promise<Submitted> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const text = body === undefined ? undefined : JSON.stringify(body)
  let jobs = 0
  const begun = performance.now()
  const until = begun + ms
  async function connection() {
    while (performance.now() < until) {
      await ask(agent, url, method, text)
      jobs++
    }
  }
  await Promise.all(Array.from({ length: connections }, connection))
  agent.destroy()
  return { jobs, ms: performance.now() - begun }
}

/** Submits to a pod over HTTP, as clients do. */
export function httpProducer(address: string): Producer {
  const agent = new Agent({ keepAlive: true })
  const post = (path: string, body: unknown) => ask(agent, address + path, 'POST', JSON.stringify(body))
  const wish = (args: Job) => ({ type: 'job', args })
  return {
    submit: (job) => post('/submit', wish(job)),
    submitMany: (jobs) => post('/submit/batch', { steps: jobs.map(wish) }),
    close: () => Promise.resolve(agent.destroy()),
  }
}

function ask(agent: Agent, url: string, method: string, body: string | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers =
      body === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
    const asked = send(url, { agent, method, headers }, (answer) => {
      answer.resume()
      answer.on('end', () => {
        const status = answer.statusCode ?? 0
        if (status >= 200 && status < 300) resolve()
        else reject(new Error(`${method} ${url} was answered ${status}`))
      })
    })
    asked.on('error', reject)
    asked.end(body)
  })
}
