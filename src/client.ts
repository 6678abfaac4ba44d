import type { z } from 'zod'
import type { Spec } from './http/endpoint.ts'
import { specs, type Specs } from './http/specs.ts'
import { Problem } from './kernel/contract.ts'

/**
 * The typed client of the fleet door, for services and browsers: fetch and nothing of Node. Every operation of
 * openapi.json is a method by its name; parameters, query and body are one object.
 */
export interface ClientOptions {
  baseUrl: string
  token?: string
  fetch?: typeof globalThis.fetch
  /** Of one request. */
  timeoutMs?: number
  /** After the first request, where asking again cannot do harm: reads, and submits, which carry a key. */
  retriesMax?: number
}

export type Client = Methods & {
  /** The status of a step once it has an outcome, whichever it is. */
  waitFor(stepId: string, options?: WaitOptions): Promise<z.output<Specs['getStatus']['ok']>>
}

export interface WaitOptions {
  timeoutMs?: number
  signal?: AbortSignal
}

type Methods = { [K in keyof Specs]: Method<Specs[K]> }

type Method<S extends Spec> =
  Partial<Args<S>> extends Args<S>
    ? (args?: Args<S>, options?: CallOptions) => Promise<z.output<S['ok']>>
    : (args: Args<S>, options?: CallOptions) => Promise<z.output<S['ok']>>

type Args<S extends Spec> = Flat<Sent<S['params']> & Sent<S['query']> & SentBody<S>>
type SentBody<S extends Spec> = S extends { wholeBody: infer Name extends string }
  ? { [N in Name]?: unknown }
  : Sent<S['body']>
type Sent<T> = T extends z.ZodType ? z.input<T> : unknown
type Flat<T> = { [K in keyof T]: T[K] }

export interface CallOptions {
  signal?: AbortSignal
}

type Said = Omit<Problem, 'error_type'> & { error_type: string }

/** What the fleet, or the way to it, said no with. */
export class FleetQError extends Error {
  override readonly name = 'FleetQError'
  /** 0 where there was no answer at all. */
  readonly status: number
  /** As in openapi.json; 'unreachable' and 'unknown' (not an answer of Fleet-Q) are this client's own. */
  readonly error_type: string
  readonly issues: readonly { at: string; message: string }[]
  readonly request_id: string | undefined

  constructor(message: string, status: number, problem: Partial<Said> = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.status = status
    this.error_type = problem.error_type ?? 'unknown'
    this.issues = problem.issues ?? []
    this.request_id = problem.request_id
  }
}

type Fields = Record<string, unknown>
type Call = (spec: Spec, args?: Fields, options?: CallOptions) => Promise<unknown>

const RETRY_AFTER_MAX_MS = 30_000
const WAIT_SECONDS_MAX = 30

export function createClient(options: ClientOptions): Client {
  const { token, timeoutMs = 30_000, retriesMax = 3 } = options
  const send = options.fetch ?? globalThis.fetch
  const base = options.baseUrl.replace(/\/+$/, '')

  const call: Call = async (spec, args = {}, { signal } = {}) => {
    const { url, body } = requestOf(spec, args)
    const headers: Record<string, string> = { accept: 'application/json' }
    if (token !== undefined) headers['authorization'] = `Bearer ${token}`
    if (body !== undefined) headers['content-type'] = 'application/json'
    const mayRepeat = spec.method === 'GET' || spec.idempotent === true
    for (let tried = 0; ; tried++) {
      const limit = AbortSignal.timeout(timeoutMs)
      const init = { method: spec.method, headers, signal: signal ? AbortSignal.any([signal, limit]) : limit }
      let waitMs = 200 * 2 ** tried * (0.5 + Math.random())
      try {
        const response = await send(base + url, body === undefined ? init : { ...init, body })
        if (response.ok || spec.alsoStatus?.some((status) => status === response.status))
          return await response.json()
        const error = await errorOf(response)
        waitMs = Math.max(waitMs, Number(response.headers.get('retry-after') ?? 0) * 1000 || 0)
        if (![429, 503].includes(error.status) || waitMs > RETRY_AFTER_MAX_MS) throw error
        if (!mayRepeat || tried >= retriesMax) throw error
      } catch (error) {
        if (error instanceof FleetQError || signal?.aborted) throw error
        if (!mayRepeat || tried >= retriesMax)
          throw new FleetQError(`${base} cannot be reached`, 0, { error_type: 'unreachable' }, error)
      }
      await pause(waitMs, signal)
    }
  }

  const methods = methodsOf(call)
  return {
    ...methods,
    async waitFor(stepId, { timeoutMs: waitMs = 60_000, signal } = {}) {
      const until = performance.now() + waitMs
      for (let restMs = 100; ; restMs = Math.min(restMs * 1.5, 2000)) {
        const leftMs = Math.max(0, Math.min(until - performance.now(), timeoutMs / 2))
        const wait_seconds = Math.min(WAIT_SECONDS_MAX, Math.floor(leftMs / 1000))
        const askedAt = performance.now()
        const status = await methods.getStatus({ step_id: stepId, wait_seconds }, signal && { signal })
        if (status.tray === 'settled') return status
        // The pod has waited as long as it was asked to; let out sooner, it stops, or too many wait there.
        if (wait_seconds > 0 && performance.now() - askedAt >= wait_seconds * 1000) continue
        if (performance.now() + restMs > until)
          throw new FleetQError(`Step ${stepId} is still ${status.status} after ${waitMs} ms`, 0, {
            error_type: 'timeout',
          })
        await pause(restMs, signal)
      }
    },
  }
}

function methodsOf(call: Call): Methods
function methodsOf(call: Call): object {
  return Object.fromEntries(
    Object.values<Spec>(specs).map((spec) => [
      spec.name,
      (args?: Fields, options?: CallOptions) => call(spec, args, options),
    ]),
  )
}

/** Each field goes where the spec has it: into the path, the query, or else the body. */
function requestOf(spec: Spec, args: Fields): { url: string; body: string | undefined } {
  const query = new URLSearchParams()
  const body: Fields = spec.idempotent ? { idempotency_key: newKey() } : {}
  for (const [name, value] of Object.entries(args)) {
    if (value === undefined || (spec.params && name in spec.params.shape)) continue
    if (spec.query && name in spec.query.shape)
      query.set(name, typeof value === 'string' ? value : JSON.stringify(value))
    else body[name] = value
  }
  const path = spec.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(args[name])))
  return {
    url: query.size > 0 ? `${path}?${query.toString()}` : path,
    body:
      spec.body &&
      JSON.stringify(
        spec.wholeBody ? (args[spec.wholeBody] === undefined ? {} : args[spec.wholeBody]) : body,
      ),
  }
}

/** Not crypto.randomUUID: pages served over plain HTTP do not have it. */
const newKey = () =>
  Array.from(globalThis.crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join('')

async function errorOf(response: Response): Promise<FleetQError> {
  const said = Problem.loose().safeParse(await response.json().catch(() => undefined))
  return new FleetQError(said.data?.detail ?? `HTTP ${response.status}`, response.status, said.data)
}

const pause = (ms: number, signal: AbortSignal | undefined) =>
  new Promise<void>((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort)
      resolve()
    }, ms)
    if (signal?.aborted) abort()
    else signal?.addEventListener('abort', abort, { once: true })
  })
