import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { FleetError } from '../errors.ts'
import { failureOf } from './problem.ts'
import { SECURE_HEADERS } from './respond.ts'
import type { App } from './server.ts'
import { send, WireArrival } from './wire.ts'

/** An import reads every export of a module: of this one fetch and HTTP/2 too, 5 MB of an idle pod. */
const { createServer, ServerResponse } = process.getBuiltinModule('node:http')
type ServerResponse = InstanceType<typeof ServerResponse>

/** How long, in ms, and how many at once. */
export interface Limits {
  /** Of Node, whose own are 60 s, 300 s and no bound at all: room for 2,000 sockets that send a byte every ten seconds. */
  headersTimeout: number
  requestTimeout: number
  keepAliveTimeout: number
  connectionsCheckingInterval: number
  /** In which a client takes nothing of its answer: until it does that lies in memory, and a page of logs has up to 16 MB. */
  answerTimeout: number
  /** Past this a connection is closed before anything is read from it. */
  connectionsMax: number
}

const LIMITS: Limits = {
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 5000,
  connectionsCheckingInterval: 5000,
  answerTimeout: 30_000,
  // Ten thousand may wait for a step, and others have to get in.
  connectionsMax: 12_000,
}

const BACKLOG = 4096

/** Who takes a little all the time is cut off after so many. */
const ANSWER_TIMEOUTS_MAX = 10

export interface ListenOptions {
  host: string
  port: number
  /** Of a server that goes on. */
  onError?: (error: Error) => void
  /** For tests: other limits than those that hold. */
  limits?: Partial<Limits>
}

export interface Listening {
  /** The one that was taken where 0 was asked for. */
  port: number
  /** No new requests; those under way get graceMs, then their connections are cut. */
  close(options: { graceMs: number }): Promise<void>
}

export async function serveHttp(
  app: App,
  { host, port, onError = () => {}, ...options }: ListenOptions,
): Promise<Listening> {
  const limits = { ...LIMITS, ...options.limits }
  const server = createServer(limits, (incoming, outgoing) => {
    serve(app, incoming, outgoing, limits.answerTimeout).catch((error: unknown) => {
      outgoing.destroy()
      onError(error instanceof Error ? error : new Error(String(error)))
    })
  })
  server.maxConnections = limits.connectionsMax
  server.on('clientError', answerBroken)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen(error, host, port)))
    // Past the backlog the system lets a client believe that it is connected, and forgets it. Node's own is 511.
    server.listen({ port, host, backlog: BACKLOG }, resolve)
  })
  // A connection that cannot be taken, for want of file descriptors, is an error of the server, and one that
  // nobody listens for ends the process.
  server.on('error', onError)
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    close: ({ graceMs }) =>
      new Promise((resolve) => {
        const cut = setTimeout(() => server.closeAllConnections(), graceMs)
        server.close(() => {
          clearTimeout(cut)
          resolve()
        })
      }),
  }
}

/** Fulfilled when the answer was handed to Node. */
async function serve(
  app: App,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  answerTimeout: number,
): Promise<void> {
  const { socket } = incoming
  if (refused.has(socket)) return
  // Behind a body that came with an Upgrade, which nobody here takes up, Node hears no further request.
  if (incoming.headers.upgrade !== undefined) outgoing.shouldKeepAlive = false
  let arrival
  try {
    arrival = new WireArrival(incoming)
  } catch {
    refused.add(socket)
    send(outgoing, { status: 400, headers: { ...HEADERS_OF_BROKEN }, body: JSON.stringify(malformed()) })
    return
  }
  send(outgoing, await app.answer(arrival))
  if (socket.writableLength > 0) cutSlowReader(outgoing, socket, answerTimeout)
}

/** Only where the system did not take the answer at once: nearly never. Node ends a connection whose time is over. */
function cutSlowReader(outgoing: ServerResponse, socket: Socket, answerTimeout: number): void {
  socket.setTimeout(answerTimeout)
  const cut = setTimeout(() => socket.destroy(), answerTimeout * ANSWER_TIMEOUTS_MAX)
  outgoing.once('close', () => clearTimeout(cut))
}

/** Node goes on reading what came along with a malformed request; nothing of it may reach the app. */
const refused = new WeakSet<Duplex>()

const HEADERS_OF_BROKEN = { 'content-type': 'application/json', ...SECURE_HEADERS, connection: 'close' }

const malformed = () =>
  failureOf(new FleetError('invalid_input', 'This is not a valid HTTP request'), { path: '', requestId: '' })
    .body

const BROKEN: Record<string, string> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
}

/** What is not HTTP never reaches the app: answer and close, for nobody knows where the next request begins. */
function answerBroken(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy()
    return
  }
  const current = answerUnderWay(socket)
  if (current !== undefined && (current.req.complete || current.headersSent)) {
    // What is broken stands behind a request that is not, or that was refused already: it gets its answer, and no other.
    current.shouldKeepAlive = false
    current.once('close', () => socket.end())
    return
  }
  const body = JSON.stringify(malformed())
  const headers = { ...HEADERS_OF_BROKEN, 'content-length': Buffer.byteLength(body) }
  const head = [
    `HTTP/1.1 ${BROKEN[error.code ?? ''] ?? '400 Bad Request'}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}

/** Node keeps it there, and its own handler of broken requests looks there too. */
function answerUnderWay(socket: Duplex): ServerResponse | undefined {
  const answer: unknown = Reflect.get(socket, '_httpMessage')
  return answer instanceof ServerResponse ? answer : undefined
}

function cannotListen(error: NodeJS.ErrnoException, host: string, port: number): unknown {
  const other = port < 65_535 ? port + 1 : port - 1
  if (error.code === 'EADDRINUSE')
    return new FleetError(
      'port_taken',
      `Port ${port} of ${host} is taken by another program. Stop that, or use another port: FLEET_Q_API_PORT=${other}`,
      { cause: error },
    )
  if (error.code === 'EACCES' || error.code === 'EADDRNOTAVAIL')
    return new FleetError(
      'config_invalid',
      `Cannot serve on port ${port} of ${host} (${error.code}): set FLEET_Q_API_HOST to an address of this machine and FLEET_Q_API_PORT to a port that it may open`,
      { cause: error },
    )
  return error
}
