import { connect } from 'node:net'
import { Agent, request as send } from 'node:http'
import type { Job, Producer } from '../adapters/adapter.ts'
import type { RequestCall, Submitted } from './calls.ts'

/**
 * So many connections that are kept alive, each of which asks again when it has its answer. Over plain sockets: Node's
 * own client costs more than the server that is measured, on the same cores.
 */
export async function request({ address, body, connections, ms }: RequestCall): Promise<Submitted> {
  const { hostname, port, host } = new URL(address)
  const text = JSON.stringify(body)
  const asking = [
    'POST /submit HTTP/1.1',
    `host: ${host}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(text)}`,
  ]
  const bytes = Buffer.from(`${asking.join('\r\n')}\r\n\r\n${text}`)
  const begun = performance.now()
  const counts = await Promise.all(
    Array.from({ length: connections }, () => converse(hostname, Number(port), bytes, begun + ms)),
  )
  return { jobs: counts.reduce((sum, count) => sum + count, 0), ms: performance.now() - begun }
}

/** How many were answered 2xx until then. */
function converse(host: string, port: number, asking: Buffer, until: number): Promise<number> {
  return new Promise((resolve, reject) => {
    let answers = 0
    let heard = ''
    const socket = connect({ host, port, noDelay: true }, () => socket.write(asking))
    socket.setEncoding('latin1')
    socket.on('error', reject)
    socket.on('data', (part: string) => {
      heard += part
      const length = lengthOf(heard)
      if (length === undefined || heard.length < length) return
      if (!heard.startsWith('HTTP/1.1 2')) {
        socket.destroy()
        reject(new Error(`POST /submit was answered ${heard.slice(0, 400)}`))
        return
      }
      heard = heard.slice(length)
      answers++
      if (performance.now() < until) socket.write(asking)
      else {
        socket.destroy()
        resolve(answers)
      }
    })
  })
}

/** Of the head and the body of an answer; undefined until its head is there. */
function lengthOf(heard: string): number | undefined {
  const head = heard.indexOf('\r\n\r\n')
  if (head === -1) return undefined
  const length = /\r\ncontent-length: (\d+)/i.exec(heard.slice(0, head))?.[1]
  if (length === undefined) throw new Error(`an answer without a length: ${heard.slice(0, head)}`)
  return head + 4 + Number(length)
}

/** Submits to a pod over HTTP, as clients do. */
export function httpProducer(address: string): Producer {
  const agent = new Agent({ keepAlive: true })
  const post = (path: string, body: unknown) => ask(agent, address + path, JSON.stringify(body))
  const wish = (args: Job) => ({ type: 'job', args })
  return {
    submit: (job) => post('/submit', wish(job)),
    submitMany: (jobs) => post('/submit/batch', { steps: jobs.map(wish) }),
    close: () => Promise.resolve(agent.destroy()),
  }
}

function ask(agent: Agent, url: string, body: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
    const asked = send(url, { agent, method: 'POST', headers }, (answer) => {
      answer.resume()
      answer.on('end', () => {
        const status = answer.statusCode ?? 0
        if (status >= 200 && status < 300) resolve()
        else reject(new Error(`POST ${url} was answered ${status}`))
      })
    })
    asked.on('error', reject)
    asked.end(body)
  })
}
