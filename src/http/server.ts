import { randomUUID } from 'node:crypto'
import { inspect } from 'node:util'
import { FleetError } from '../errors.ts'
import type { Log } from '../kernel/log.ts'
import { arrivalOf, responseOf, type Arrival, type Reply } from './arrival.ts'
import { Asked, bind, routesOf, type Route } from './bind.ts'
import { ROLES } from '../access/role.ts'
import type { HandlersOf, Page } from './endpoint.ts'
import { authorise, createGuard, type Admitted, type GuardOptions } from './guard.ts'
import { pathsOf } from './paths.ts'
import { failureOf } from './problem.ts'
import { createRate } from './rate.ts'
import { referencePages } from './reference.ts'
import { jsonReply, pageReply } from './respond.ts'
import { specs, type Specs } from './specs.ts'
import { API_PREFIX } from './specs/executions.ts'

export type Handlers = HandlersOf<Specs>

export interface AppOptions extends Omit<GuardOptions, 'publicPaths'> {
  handlers: Handlers
  log: Log
  version: string
  /** Where the executions door stands. */
  apiPrefix?: string
  /** Routes of further doors. */
  routes?: readonly Route[]
  pages?: readonly Page[]
  /** For tests: an answer that does not fit its schema is an error. */
  checkAnswers?: boolean
  /** Told of every answer; `operation` is undefined where none was reached. */
  observe?: (seen: { operation: string | undefined; status: number; durationMs: number }) => void
}

export interface App {
  /** Never fails: what goes wrong is an answer, too. */
  answer(arrival: Arrival): Promise<Reply>
  /** The same without a socket, for tests. */
  request(url: string, init?: RequestInit): Promise<Response>
}

/** Lines of the log about refusals; how many came between two of them stands in the later. */
const REFUSALS_TOLD = { perSecond: 10, burst: 100 }

/** What is served at a place, and who may ask for it. */
interface Place {
  /** Undefined for a page. */
  operation: string | undefined
  reply(asked: Asked, params: Record<string, string>): Promise<Reply>
}

export function createApp(options: AppOptions): App {
  const { log, observe, checkAnswers = false } = options
  const routes = [...routesOf(specs, options.handlers), ...(options.routes ?? [])].map(
    placedAt(options.apiPrefix ?? API_PREFIX),
  )
  const pages = [
    ...referencePages(
      routes.map(({ spec }) => spec),
      options.version,
    ),
    ...(options.pages ?? []),
  ]
  refuseWithoutRole([...routes.map(({ spec }) => spec), ...pages])
  const publicPaths = new Set(
    [...routes.map(({ spec }) => spec), ...pages.map((page) => ({ ...page, method: 'GET' }))]
      .filter(({ role, method }) => role === 'public' && method === 'GET')
      .map(({ path }) => path),
  )
  const guard = createGuard({ ...options, publicPaths })
  const refusalsTold = createRate(REFUSALS_TOLD)
  let untold = 0
  const admitAgain = async (arrival: Arrival) => (await guard.admit(arrival)).role
  const paths = pathsOf<Place>([
    ...routes.map((route) => ({
      method: route.spec.method,
      path: route.spec.path,
      value: { operation: route.spec.name, reply: bind(route, { checkAnswers, admitAgain }) },
    })),
    ...pages.map((page) => ({
      method: 'GET',
      path: page.path,
      value: { operation: undefined, reply: bindPage(page) },
    })),
  ])

  function reply(asked: Asked): Promise<Reply> {
    const { arrival } = asked
    if (arrival.host.includes(','))
      throw new FleetError('invalid_input', 'A request may name one Host, not two')
    const admitted = guard.admit(arrival)
    // Nearly always at once: a turn of the loop costs each request.
    return admitted instanceof Promise
      ? admitted.then((caller) => replyTo(asked, caller))
      : replyTo(asked, admitted)
  }

  function replyTo(asked: Asked, { role, who, ip }: Admitted): Promise<Reply> {
    const { method, path } = asked.arrival
    asked.role = role
    asked.who = who
    asked.ip = ip
    const found = paths.find(method, path)
    if (found !== undefined) {
      asked.operation = found.value.operation
      return found.value.reply(asked, found.params)
    }
    const methods = paths.methodsAt(path)
    if (methods.length > 0)
      throw new FleetError('method_not_allowed', `${method} is not possible here; ${methods.join(', ')} is`)
    throw new FleetError(
      'route_not_found',
      `Nothing is served at ${path.slice(0, LOGGED_PATH_MAX)}. GET /docs shows what is`,
    )
  }

  /** Whoever is refused can do it again, thousands of times a second. */
  function tellRefused(asked: Asked, reason: string) {
    if (refusalsTold.take('all') > 0) return untold++
    log.warn({ ...lineOf(asked), reason, ...(untold > 0 && { untold }) }, 'a request was refused')
    untold = 0
  }

  function refusal(asked: Asked, error: unknown): Reply {
    const { requestId, arrival } = asked
    const { path } = arrival
    const { status, body, headers } = failureOf(error, { path, requestId })
    if (status === 500) log.error({ ...lineOf(asked), err: asError(error) }, 'a request failed')
    if (status === 401 || status === 403 || status === 429) tellRefused(asked, body.detail)
    if (status === 401) headers['www-authenticate'] = 'Bearer realm="fleet-q"'
    if (status === 405) headers['allow'] = paths.methodsAt(path).join(', ')
    // The rest of the body is not worth waiting for.
    if (status === 413) headers['connection'] = 'close'
    return jsonReply(requestId, status, body, headers)
  }

  async function answer(arrival: Arrival): Promise<Reply> {
    const startedAt = performance.now()
    const asked = new Asked(arrival, requestIdOf(arrival))
    let answered
    try {
      answered = await reply(asked)
    } catch (error) {
      answered = refusal(asked, error)
    }
    const durationMs = performance.now() - startedAt
    const { status } = answered
    observe?.({ operation: asked.operation, status, durationMs })
    if (log.isLevelEnabled('debug')) log.debug({ ...lineOf(asked), status, durationMs }, 'answered')
    return answered
  }

  return {
    answer,
    request: async (url, init) => responseOf(await answer(arrivalOf(new Request(url, init)))),
  }
}

const placedAt =
  (prefix: string) =>
  (route: Route): Route =>
    route.spec.path.startsWith(`${API_PREFIX}/`)
      ? {
          ...route,
          spec: {
            ...route.spec,
            path: `${prefix}${route.spec.path.slice(API_PREFIX.length)}` as `/${string}`,
          },
        }
      : route

/** Types say so already; this is for tables that were made in another way. */
function refuseWithoutRole(places: readonly { path: string; role: string }[]) {
  for (const { path, role } of places)
    if (role !== 'public' && !ROLES.some((known) => known === role))
      throw new Error(`${path} declares no role, so nobody may be let in: give it one in its table`)
}

const bindPage = (page: Page) => async (asked: Asked) => {
  authorise(asked.role, page.role)
  return pageReply(asked.requestId, await page.answer(asked))
}

function requestIdOf(arrival: Arrival): string {
  const sent = arrival.header('x-request-id')
  return sent !== undefined && /^[\w.:-]{1,100}$/.test(sent) ? sent : randomUUID()
}

const asError = (thrown: unknown) =>
  thrown instanceof Error ? thrown : new Error(`This was thrown and is no error: ${inspect(thrown)}`)

const LOGGED_PATH_MAX = 200

/** What a log line tells of a request; its path is the sender's and may be long. */
const lineOf = ({ requestId, role, who, ip, arrival }: Asked) => ({
  requestId,
  method: arrival.method,
  path: arrival.path.slice(0, LOGGED_PATH_MAX),
  role,
  who,
  ip,
})
