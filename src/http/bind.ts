import type { IncomingMessage } from 'node:http'
import { inspect } from 'node:util'
import type { Context } from 'hono'
import type { Answer, Caller, HandlersOf, Role, Spec } from './endpoint.ts'
import { authorise } from './guard.ts'
import { checked, readInput } from './input.ts'
import { jsonResponse } from './respond.ts'

export interface AppEnv {
  Bindings: { incoming?: IncomingMessage }
  Variables: { requestId: string; role: Role; operation: string | undefined }
}

/** A spec and who answers it, whatever their types: what the app is built from. */
export interface Route {
  spec: Spec
  run: (input: Record<string, unknown>, caller: Caller) => Promise<Answer<Spec>>
}

/** Puts each spec of a table together with the handler of its name. A handler too few does not compile. */
export function routesOf<T extends Record<string, Spec>>(specs: T, handlers: HandlersOf<T>): Route[]
export function routesOf(specs: Record<string, Spec>, handlers: object): Route[] {
  return Object.entries(specs).map(([name, spec]) => {
    const run: Route['run'] | undefined = Reflect.get(handlers, name)
    if (run === undefined) throw new Error(`No handler for ${name}`)
    return { spec, run }
  })
}

export interface BindOptions {
  /** Compare every answer with its schema and fail where it differs: for tests. */
  checkAnswers: boolean
}

/** One route from the request to the answer. */
export const bind =
  ({ spec, run }: Route, { checkAnswers }: BindOptions) =>
  async (context: Context<AppEnv>): Promise<Response> => {
    authorise(context.var.role, spec.role)
    const request = context.req.raw
    const input = await readInput(spec, { request, params: context.req.param(), query: queryOf(request.url) })
    const answer = await run(input, callerOf(context)).catch(asError)
    if (checkAnswers) checkAnswer(spec, answer)
    const status = answer.status ?? (answer.replayed ? 200 : spec.status)
    const headers: Record<string, string> = { ...answer.headers }
    if (answer.replayed) headers['idempotency-replayed'] = 'true'
    if (status === 503) headers['retry-after'] ??= '5'
    const next = nextPage(spec, answer.body, request.url)
    if (next !== undefined) headers['link'] = `<${next}>; rel="next"`
    return jsonResponse(context.var.requestId, status, answer.body, headers)
  }

/** Hono gives onError errors only; whatever else a handler throws would leave without an answer of ours. */
function asError(thrown: unknown): never {
  throw thrown instanceof Error ? thrown : new Error(`This was thrown and is no error: ${inspect(thrown)}`)
}

export const callerOf = (context: Context<AppEnv>): Caller => ({
  role: context.var.role,
  requestId: context.var.requestId,
  // Without a socket (a test through app.request) there are no bindings at all.
  ip: (context.env as AppEnv['Bindings'] | undefined)?.incoming?.socket.remoteAddress,
  header: (name) => context.req.header(name),
})

const queryOf = (url: string) => {
  const mark = url.indexOf('?')
  return mark === -1 ? '' : url.slice(mark + 1).replace(/#.*$/, '')
}

/** Lists carry next_cursor; for whoever follows Link instead, the same request with that cursor. */
function nextPage(spec: Spec, body: unknown, url: string): string | undefined {
  if (!spec.query || typeof body !== 'object' || body === null || !('next_cursor' in body)) return undefined
  if (typeof body.next_cursor !== 'string') return undefined
  const { pathname, searchParams } = new URL(url)
  searchParams.set('cursor', body.next_cursor)
  return `${pathname}?${searchParams.toString()}`
}

function checkAnswer(spec: Spec, answer: Answer<Spec>): void {
  const statuses = [spec.status, ...(spec.alsoStatus ?? [])]
  const status = answer.status ?? spec.status
  if (!statuses.includes(status))
    throw new Error(`${spec.name} answers ${status}, which its spec does not name`)
  try {
    checked(spec.ok, answer.body)
  } catch (error) {
    throw new Error(`The answer of ${spec.name} does not fit its schema: ${String(error)}`, { cause: error })
  }
}
