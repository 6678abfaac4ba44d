import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { BODY_BYTES_MAX, cutOff, splitTarget, tooLarge, type Arrival, type Reply } from './arrival.ts'

/**
 * Between Node's requests and ours, without the Request and Response of the web: with a router and a chain of
 * middleware they were 18 us of the 43 that a submit cost before its insert, as much as Node's own part.
 */
export class WireArrival implements Arrival {
  readonly method: string
  readonly host: string
  readonly path: string
  readonly query: string
  readonly #incoming: IncomingMessage

  /** Throws where this is HTTP to Node, but no request. */
  constructor(incoming: IncomingMessage) {
    this.#incoming = incoming
    this.method = incoming.method ?? ''
    this.host = this.header('host') ?? ''
    if (!isFramed(incoming)) throw new Error('a length that could be read in two ways')
    // Two of them are for the app to refuse: it says why.
    if (!HOST.test(this.host) && !this.host.includes(',')) throw new Error('a Host that is none')
    const { path, query } = splitTarget(originForm(incoming.url ?? ''))
    this.path = path
    this.query = query
  }

  get ip() {
    return this.#incoming.socket.remoteAddress
  }

  /** Not from `incoming.headers`: of two that differ it keeps the first alone. */
  header(name: string): string | undefined {
    const { rawHeaders } = this.#incoming
    let value: string | undefined
    for (let i = 0; i < rawHeaders.length; i += 2) {
      const sent = rawHeaders[i] ?? ''
      if (sent.length !== name.length || sent.toLowerCase() !== name) continue
      value = value === undefined ? rawHeaders[i + 1] : `${value}, ${rawHeaders[i + 1]}`
    }
    return value
  }

  onGone(act: () => void): () => void {
    const { socket } = this.#incoming
    // What is sent behind one that waits, on the same connection, is answered behind it anyway: it is not waited for.
    if (socket.destroyed || waited.has(socket)) {
      setImmediate(act)
      return () => {}
    }
    waited.add(socket)
    socket.once('close', act)
    return () => {
      waited.delete(socket)
      socket.off('close', act)
    }
  }

  body(): Promise<Uint8Array> {
    const incoming = this.#incoming
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = []
      let size = 0
      incoming.on('data', (chunk: Buffer) => {
        size += chunk.byteLength
        // The rest still flows, into nothing: Node closes the connection behind the answer.
        if (size > BODY_BYTES_MAX) reject(tooLarge())
        else chunks.push(chunk)
      })
      incoming.on('end', () => resolve(chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)))
      incoming.on('error', () => reject(cutOff()))
      // Comes after every request, and an Error that nobody gets costs 4 us.
      incoming.on('close', () => {
        if (!incoming.readableEnded) reject(cutOff())
      })
    })
  }
}

/** Connections of which a request is being waited for: one each. */
const waited = new WeakSet<Duplex>()

/**
 * Node takes HTTP/2.0 for a version of 1.1, chunks from HTTP/1.0, an empty Transfer-Encoding beside a length, and any
 * codings before the last: a proxy in front of us may see the end of such a request elsewhere.
 */
function isFramed({ httpVersionMajor, httpVersionMinor, headers }: IncomingMessage): boolean {
  const coding = headers['transfer-encoding']
  if (httpVersionMajor !== 1) return false
  return coding === undefined || (httpVersionMinor === 1 && coding.toLowerCase() === 'chunked')
}

const HOST = /^(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?$/i

/** What a proxy is asked for, http://host/path, is the same to us as /path. */
function originForm(target: string): string {
  if (target.startsWith('/')) return target
  const path = /^https?:\/\/[^/?#]+(\/.*)?$/i.exec(target)
  if (path === null) throw new Error('a target that is no path')
  return path[1] ?? '/'
}

export function send(outgoing: ServerResponse, { status, headers, body }: Reply): void {
  const bytes = Buffer.byteLength(body)
  if (status !== 204) headers['content-length'] = String(bytes)
  outgoing.writeHead(status, headers)
  // Most answers are ASCII, and go to the socket faster where Node is told so.
  outgoing.end(body, typeof body === 'string' && bytes === body.length ? 'latin1' : 'utf8')
}
