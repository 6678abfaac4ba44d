import type { IncomingHttpHeaders } from 'node:http'
import { isIP } from 'node:net'
import { durationText } from '../../kernel/duration.ts'
import { defineStep, NonRetryableError, retry, type StepContext } from '../../step/handler.ts'
import { hostOf, parseAllow, permitFor, portOf, type AllowEntry } from './allow.ts'
import { httpInput, type HttpArgs } from './http.schema.ts'
import { timeLimit } from './limit.ts'
import { resolveByDns, send, type Answer, type Hop, type Resolve } from './request.ts'

export interface HttpStepOptions {
  /** Entries of FLEET_Q_HTTP_ALLOW. */
  allowHosts: readonly string[]
  /** Certificate authorities (PEM) to trust instead of the usual ones. */
  ca?: string
  /** In the place of DNS. */
  resolve?: Resolve
}

export interface HttpResult {
  status: number
  headers: Record<string, string>
  /** The first 64 KiB, as text. */
  body: string
  truncated: boolean
}

type Target = Pick<Hop, 'url' | 'method' | 'headers' | 'body'>

const RESULT_HEADERS = [
  'content-encoding',
  'content-length',
  'content-type',
  'etag',
  'last-modified',
  'location',
  'retry-after',
  'x-request-id',
] as const
const RESULT_HEADER_CHARS_MAX = 2048
const EXCERPT_CHARS_MAX = 500
const RETRY_AFTER_MS_MAX = 24 * 3_600_000

/** Another attempt may help although it is the caller whom these blame. */
const RETRYABLE = new Set([408, 425, 429])
const REDIRECTS = new Set([301, 302, 303, 307, 308])
/** What another origin may see of the caller's headers; any other could be a credential. */
const NEUTRAL = new Set(['accept', 'accept-encoding', 'accept-language', 'content-type', 'user-agent'])

/** Steps of type http: call a URL of an allowed host. Off where no host is allowed. */
export function httpStep(options: HttpStepOptions) {
  const { ca, resolve = resolveByDns } = options
  const entries = parseAllow(options.allowHosts)
  const input = httpInput((url) => refusalOf(url, entries))

  async function run(args: HttpArgs, ctx: StepContext) {
    const first = firstTarget(args, ctx)
    const limitMs = args.timeout_seconds * 1000
    const limit = timeLimit(
      ctx.signal,
      limitMs,
      () => new Error(`${nameOf(first)} gave no complete answer within ${durationText(limitMs)}`),
    )
    const startedAt = performance.now()
    try {
      const { target, answer } = await follow(first, args.follow_redirects, limit.signal)
      const took = durationText(performance.now() - startedAt)
      ctx.log.info(`${nameOf(target)} answered ${answer.status} in ${took}`)
      return judge(target, answer, args.expect_status)
    } finally {
      limit.clear()
    }
  }

  async function follow(first: Target, redirectsMax: number, signal: AbortSignal) {
    let target = first
    for (let redirects = 0; ; redirects++) {
      const answer = await ask(target, signal)
      const next = redirectsMax > 0 ? redirected(target, answer) : undefined
      if (next === undefined) return { target, answer }
      if (redirects === redirectsMax)
        throw new NonRetryableError(`${nameOf(first)} was redirected more than ${redirectsMax} times`)
      target = next
    }
  }

  async function ask(target: Target, signal: AbortSignal): Promise<Answer> {
    const permits = permitFor(target.url, entries)
    const refusal = refusalOf(target.url.href, entries)
    if (permits === undefined || refusal !== undefined)
      throw new NonRetryableError(`${nameOf(target)} was not called: the URL ${refusal}`)
    try {
      return await send({ ...target, permits, resolve, signal, ca })
    } catch (error) {
      if (signal.aborted || error instanceof NonRetryableError) throw error
      throw new Error(`${nameOf(target)} failed: ${networkReason(error)}`, { cause: error })
    }
  }

  return defineStep('http', { input }, run)
}

/** Why a URL may not be called, as what follows "the URL"; undefined when it may. */
function refusalOf(text: string, entries: readonly AllowEntry[]): string | undefined {
  // Programs disagree on what a backslash or a line break in a URL means; nobody needs either.
  if (/[\s\\]/.test(text) || !URL.canParse(text)) return 'is not a URL'
  const url = new URL(text)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return `is ${url.protocol}, not http: or https:`
  if (url.username !== '' || url.password !== '')
    return 'has a user or password before its host; send an Authorization header instead'
  const host = hostOf(url)
  const permits = permitFor(url, entries)
  if (permits === undefined || (isIP(host) !== 0 && !permits(host)))
    return `calls ${host}, port ${portOf(url)}, by ${url.protocol.slice(0, -1)}, which FLEET_Q_HTTP_ALLOW does not allow`
  return undefined
}

function firstTarget(args: HttpArgs, ctx: StepContext): Target {
  const { method, body } = args
  const given = Object.entries(args.headers).map(([name, value]) => [name.toLowerCase(), value])
  const headers: Record<string, string> = {
    accept: '*/*',
    // Nothing is unpacked, so that a small answer cannot unfold into a big one.
    'accept-encoding': 'identity',
    // Encoded where a key of the submitter holds what no header may hold.
    'idempotency-key': /^[\x21-\x7e]*$/.test(ctx.idempotencyKey)
      ? ctx.idempotencyKey
      : encodeURIComponent(ctx.idempotencyKey),
    'user-agent': 'fleet-q',
    ...(body === undefined ? {} : { 'content-type': contentTypeOf(body) }),
    ...Object.fromEntries(given),
  }
  const bytes =
    body === undefined ? undefined : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body))
  return { url: new URL(args.url), method, headers, body: bytes }
}

const contentTypeOf = (body: unknown) =>
  typeof body === 'string' ? 'text/plain; charset=utf-8' : 'application/json'

/** Where an answer sends us, and with what (as browsers do it); undefined when it does not. */
function redirected(from: Target, { status, headers }: Answer): Target | undefined {
  if (!REDIRECTS.has(status) || headers.location === undefined) return undefined
  if (!URL.canParse(headers.location, from.url.href))
    throw new NonRetryableError(`${nameOf(from)} redirected to something that is not a URL`)
  const url = new URL(headers.location, from.url)
  const becomesGet = (status === 303 && from.method !== 'HEAD') || (status <= 302 && from.method === 'POST')
  const isElsewhere = url.origin !== from.url.origin
  const kept = Object.entries(from.headers).filter(
    ([name]) => !(isElsewhere && !NEUTRAL.has(name)) && !(becomesGet && name.startsWith('content-')),
  )
  return {
    url,
    method: becomesGet ? 'GET' : from.method,
    headers: Object.fromEntries(kept),
    body: becomesGet ? undefined : from.body,
  }
}

/** Turns an answer into a result, a wish for another attempt, or an error. */
function judge(target: Target, answer: Answer, expected: HttpArgs['expect_status']) {
  const { status, headers, truncated } = answer
  const body = textOf(answer)
  const isExpected = expected === undefined ? status < 400 : [expected].flat().includes(status)
  if (isExpected) return { status, headers: resultHeaders(headers), body, truncated } satisfies HttpResult
  const excerpt = body.trim().slice(0, EXCERPT_CHARS_MAX)
  const said = `${nameOf(target)} answered ${status}${excerpt === '' ? '' : `: ${excerpt}`}`
  if (status < 400) throw new Error(`${said} (expect_status names other statuses)`)
  if (status < 500 && !RETRYABLE.has(status)) throw new NonRetryableError(said)
  const afterMs = retryAfterMs(headers)
  if (afterMs === undefined) throw new Error(said)
  return retry(afterMs, said)
}

/** A date is read against the Date of the same answer: the clock of this pod decides nothing. */
function retryAfterMs(headers: IncomingHttpHeaders): number | undefined {
  const after = headers['retry-after']
  if (after === undefined) return undefined
  const ms = /^\d+$/.test(after) ? Number(after) * 1000 : Date.parse(after) - Date.parse(headers.date ?? '')
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), RETRY_AFTER_MS_MAX)
}

const resultHeaders = (headers: IncomingHttpHeaders) =>
  Object.fromEntries(
    RESULT_HEADERS.flatMap((name) => {
      const value = headers[name]
      return value === undefined ? [] : [[name, String(value).slice(0, RESULT_HEADER_CHARS_MAX)]]
    }),
  )

function textOf({ headers, body, truncated }: Answer): string {
  const [, charset = 'utf-8'] = /charset="?([\w-]+)/i.exec(headers['content-type'] ?? '') ?? []
  // `stream` leaves out the half of a character at the cut.
  return decoderOf(charset).decode(body, { stream: truncated })
}

function decoderOf(charset: string) {
  try {
    return new TextDecoder(charset)
  } catch {
    return new TextDecoder()
  }
}

/** The query may hold secrets, so errors and logs go without it. */
const nameOf = ({ method, url }: Target) => `${method} ${url.origin}${url.pathname}`

function networkReason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const code = 'code' in error ? String(error.code) : ''
  // Node joins the errors of several addresses in one error without a message.
  return error.message === '' || error.message.includes(code)
    ? error.message || code
    : `${code} ${error.message}`
}
