import type { z } from 'zod'
import type { Actor } from '../access/actor.ts'
import type { Role } from '../access/role.ts'
import type { ErrorCode } from '../errors.ts'

/** An endpoint is a value: routes, checks, openapi.json, the reference page and the client all read this. */
export interface Spec {
  /** The operation: name of the handler, of the client's method, and of the operation in openapi.json. */
  name: string
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** With parameters in braces: '/status/{step_id}'. */
  path: `/${string}`
  door: Door
  summary: string
  role: Role
  params?: z.ZodObject
  query?: z.ZodObject
  body?: z.ZodType
  /** The body may be left out; the schema then sees {}. */
  bodyOptional?: true
  /** The body is any JSON, which the client takes under this name. */
  wholeBody?: 'payload'
  /** Creates something: takes the header Idempotency-Key as the body's idempotency_key. */
  idempotent?: true
  ok: z.ZodType
  status: OkStatus
  /** Statuses that answer with the same schema as `status`. */
  alsoStatus?: readonly OkStatus[]
  /** Beyond what every endpoint can answer: bad input, no token, missing role, an error of ours. */
  failures: readonly ErrorCode[]
}

export type Door = 'fleet' | 'executions' | 'tasks' | 'jobs' | 'scheduler'

/** 503 is among them for /health and /readyz alone: they answer in their own shape, well or not. */
export type OkStatus = 200 | 201 | 202 | 204 | 503

/** Part by part what a handler gets: `{ params, query, body }`, each only where the spec has it. */
export type Input<S extends Spec> = { [P in Part<S>]: S[P] extends z.ZodType ? z.output<S[P]> : never }

type Part<S extends Spec> = { [P in 'params' | 'query' | 'body']: S[P] extends z.ZodType ? P : never }[
  | 'params'
  | 'query'
  | 'body']

/** What a handler may know of the request beyond its input. */
export interface Caller extends Actor {
  readonly header: (name: string) => string | undefined
  /** Calls when the caller has hung up; answers how to forget that again. */
  readonly onGone: (act: () => void) => () => void
}

export interface Answer<S extends Spec> {
  body: z.input<S['ok']>
  /** Where it is not the spec's own. */
  status?: S['status'] | (S['alsoStatus'] extends readonly (infer T)[] ? T : never)
  /** The first answer to this idempotency key, given again. */
  replayed?: boolean
  headers?: Record<string, string>
  /** Of a list whose body is the list alone: told in Link. */
  nextCursor?: string
}

export type Handler<S extends Spec> = (input: Input<S>, caller: Caller) => Promise<Answer<S>>

/** One handler for each spec of a table; a missing one does not compile. */
export type HandlersOf<T extends Record<string, Spec>> = { [K in keyof T]: Handler<T[K]> }

/** Something to look at rather than an operation: the reference, the dashboard, metrics. */
export interface Page {
  path: `/${string}`
  role: Role
  answer: (caller: Caller) => Response | Promise<Response>
}

type Unnamed = Omit<Spec, 'name'>
type Named<T extends Record<string, Unnamed>> = { [K in keyof T]: T[K] & { name: K & string } }

/** Gives each spec the name that it has in its table. */
export function specTable<const T extends Record<string, Unnamed>>(table: T): Named<T>
export function specTable(table: Record<string, Unnamed>): Record<string, Spec> {
  return Object.fromEntries(Object.entries(table).map(([name, spec]) => [name, { name, ...spec }]))
}
