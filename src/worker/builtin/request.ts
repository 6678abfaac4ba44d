import { lookup, type LookupAddress } from 'node:dns'
import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import https from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { NonRetryableError } from '../../step/handler.ts'
import { hostOf, portOf, type Permit } from './allow.ts'

/** Turns a name into addresses. Tests put their own in the place of DNS. */
export type Resolve = (
  hostname: string,
  done: (error: NodeJS.ErrnoException | null, found: LookupAddress[]) => void,
) => void

/** One request to one URL; a redirect is another hop. */
export interface Hop {
  readonly url: URL
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer | undefined
  readonly permits: Permit
  readonly resolve: Resolve
  readonly signal: AbortSignal
  /** Certificate authorities to trust instead of the usual ones. */
  readonly ca: string | undefined
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** The first KEPT_BYTES_MAX of what was sent. */
  readonly body: Buffer
  readonly truncated: boolean
}

const KEPT_BYTES_MAX = 64 * 1024
const READ_BYTES_MAX = 1024 * 1024
const HEADER_BYTES_MAX = 16 * 1024

// Agents of our own: no kept connection that was checked for another URL, no resumed session, and none of the
// proxies that Node's global agents may take from the environment, behind which the check would mean nothing.
const HTTP_AGENT = new http.Agent({ keepAlive: false })
const HTTPS_AGENT = new https.Agent({ keepAlive: false, maxCachedSessions: 0 })

export const resolveByDns: Resolve = (hostname, done) => lookup(hostname, { all: true }, done)

/** Sends one request to an address that `permits` lets through, and reads a bounded answer. */
export async function send(hop: Hop): Promise<Answer> {
  const host = hostOf(hop.url)
  // Node resolves no literal, so the lookup below would never be asked.
  if (isIP(host) !== 0 && !hop.permits(host)) throw notPermitted(host)
  hop.signal.throwIfAborted()
  return await new Promise<Answer>((done, failed) => {
    const secure = hop.url.protocol === 'https:'
    const options: https.RequestOptions = {
      agent: secure ? HTTPS_AGENT : HTTP_AGENT,
      headers: hop.headers,
      hostname: host,
      insecureHTTPParser: false,
      lookup: permittedLookup(hop),
      maxHeaderSize: HEADER_BYTES_MAX,
      method: hop.method,
      path: hop.url.pathname + hop.url.search,
      port: portOf(hop.url),
      // Said here so that NODE_TLS_REJECT_UNAUTHORIZED=0 has no say.
      rejectUnauthorized: true,
      signal: hop.signal,
      ...(hop.ca === undefined ? {} : { ca: hop.ca }),
    }
    const fail = (error: unknown) => failed(hop.signal.aborted ? hop.signal.reason : error)
    const request = secure ? https.request(options) : http.request(options)
    request.on('error', fail)
    const closed = () => fail(new Error('the connection was closed before an answer came'))
    request.on('close', closed)
    request.on('response', (response) => {
      request.off('close', closed)
      read(response, fail, (answer) => {
        done(answer)
        request.destroy()
      })
    })
    request.end(hop.body)
  })
}

/**
 * The address that is checked is the address that is connected: Node asks this function once for a connection
 * and uses what it returns, so a name that changes its mind between check and use changes nothing.
 */
const permittedLookup =
  ({ permits, resolve }: Hop): LookupFunction =>
  (hostname, options, callback) =>
    resolve(hostname, (error, found) => {
      if (error !== null) return callback(error, [])
      const open = found.filter(({ address }) => permits(address))
      const [first] = open
      if (first === undefined) return callback(notPermitted(hostname), [])
      if (options.all === true) return callback(null, open)
      return callback(null, first.address, first.family)
    })

/** The address is not named: whoever may submit a step need not learn what internal names stand for. */
const notPermitted = (host: string) =>
  new NonRetryableError(
    `${host} was not called: its address is not public, and no entry of FLEET_Q_HTTP_ALLOW names the address. ` +
      `If it is meant to be called, allow ${host}=<address or range>`,
  )

/** Reads on behind what is kept, so that an ordinary server can finish, but not for ever. */
function read(response: IncomingMessage, failed: (error: unknown) => void, done: (answer: Answer) => void) {
  const { statusCode: status = 0, headers } = response
  const kept: Buffer[] = []
  let keptBytes = 0
  let readBytes = 0
  const finish = () => done({ status, headers, body: Buffer.concat(kept), truncated: readBytes > keptBytes })
  response.on('data', (chunk: Buffer) => {
    const part = chunk.subarray(0, KEPT_BYTES_MAX - keptBytes)
    if (part.length > 0) kept.push(part)
    keptBytes += part.length
    readBytes += chunk.length
    if (readBytes >= READ_BYTES_MAX) finish()
  })
  response.on('end', finish)
  response.on('error', failed)
  response.on('close', () => failed(new Error('the connection was closed in the middle of the answer')))
}
