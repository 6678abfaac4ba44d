import { randomUUID } from 'node:crypto'
import { Hono, type Context } from 'hono'
import { FleetError } from '../errors.ts'
import type { Log } from '../kernel/log.ts'
import { bind, callerOf, routesOf, type AppEnv, type Route } from './bind.ts'
import type { HandlersOf, Page, TokenRole } from './endpoint.ts'
import { authorise, createGuard } from './guard.ts'
import { failureOf } from './problem.ts'
import { referencePages } from './reference.ts'
import { jsonResponse, secured } from './respond.ts'
import { specs, type Specs } from './specs.ts'

export type Handlers = HandlersOf<Specs>

export interface AppOptions {
  handlers: Handlers
  tokens: readonly { role: TokenRole; token: string }[]
  /** Serve everybody where no token is configured; the caller vouches that only loopback is bound. */
  openAccess: boolean
  /** What Host may say in open access beside the names of loopback; 'any' where something else guards the door. */
  hosts?: readonly string[] | 'any'
  log: Log
  version: string
  /** Routes of further doors. */
  routes?: readonly Route[]
  pages?: readonly Page[]
  /** For tests: an answer that does not fit its schema is an error. */
  checkAnswers?: boolean
  /** Told of every answer; `operation` is undefined where none was reached. */
  observe?: (seen: { operation: string | undefined; status: number; durationMs: number }) => void
}

export function createApp(options: AppOptions): Hono<AppEnv> {
  const { log, observe, checkAnswers = false } = options
  const routes = [...routesOf(specs, options.handlers), ...(options.routes ?? [])]
  const pages = [
    ...referencePages(
      routes.map(({ spec }) => spec),
      options.version,
    ),
    ...(options.pages ?? []),
  ]
  const doors = [
    ...routes.map(({ spec: { method, path, role } }) => ({ method, path, role })),
    ...pages.map(({ path, role }) => ({ method: 'GET', path, role })),
  ]
  const methodsAt = methodsFinder(doors)
  const guard = createGuard({
    tokens: options.tokens,
    openAccess: options.openAccess,
    hosts: options.hosts ?? [],
    publicPaths: new Set(doors.filter((d) => d.role === 'public' && d.method === 'GET').map((d) => d.path)),
  })

  // Paths are compared as they were sent, undecoded: each thing has one spelling.
  const app = new Hono<AppEnv>({ getPath: (request) => targetOf(request.url).path })

  app.use('*', async (context, next) => {
    const startedAt = performance.now()
    const sent = context.req.header('x-request-id')
    const requestId = sent !== undefined && /^[\w.:-]{1,100}$/.test(sent) ? sent : randomUUID()
    context.set('requestId', requestId)
    await next()
    const durationMs = performance.now() - startedAt
    const { status } = context.res
    observe?.({ operation: context.var.operation, status, durationMs })
    if (log.isLevelEnabled('debug')) log.debug({ ...lineOf(context), status, durationMs }, 'answered')
  })

  app.use('*', async (context, next) => {
    const { method } = context.req
    const { host, path } = targetOf(context.req.url)
    if (context.req.header('host')?.includes(','))
      throw new FleetError('invalid_input', 'A request may name one Host, not two')
    context.set('role', guard.admit({ method, host, path, header: (name) => context.req.header(name) }))
    // Hono runs GET for HEAD; an operation has the method of its spec and no other.
    if (method === 'HEAD' && methodsAt(path).length > 0) throw notAllowed(method, methodsAt(path))
    await next()
  })

  for (const route of routes) {
    const answer = bind(route, { checkAnswers })
    app.on(route.spec.method, honoPath(route.spec.path), (context) => {
      context.set('operation', route.spec.name)
      return answer(context)
    })
  }
  for (const page of pages)
    app.get(honoPath(page.path), async (context) => {
      authorise(context.var.role, page.role)
      return secured(context.var.requestId, await page.answer(callerOf(context)))
    })

  app.notFound((context) => {
    const methods = methodsAt(targetOf(context.req.url).path)
    if (methods.length > 0) throw notAllowed(context.req.method, methods)
    throw new FleetError(
      'route_not_found',
      `Nothing is served at ${lineOf(context).path}. GET /docs shows what is`,
    )
  })

  app.onError((error, context) => {
    const { path } = targetOf(context.req.url)
    const { requestId } = context.var
    const { status, body, headers } = failureOf(error, { path, requestId })
    if (status === 500) log.error({ ...lineOf(context), err: error }, 'a request failed')
    if (status === 401 || status === 403)
      log.warn({ ...lineOf(context), reason: body.detail }, 'a request was refused')
    if (status === 401) headers['www-authenticate'] = 'Bearer realm="fleet-q"'
    if (status === 405) headers['allow'] = methodsAt(path).join(', ')
    // The rest of the body is not worth waiting for.
    if (status === 413) headers['connection'] = 'close'
    return jsonResponse(requestId, status, body, headers)
  })

  return app
}

const honoPath = (path: string) => path.replaceAll(/\{(\w+)\}/g, ':$1')

/** What a log line tells of a request; its path is the sender's and may be long. */
const lineOf = (context: Context<AppEnv>) => ({
  requestId: context.var.requestId,
  method: context.req.method,
  path: targetOf(context.req.url).path.slice(0, 200),
  role: context.var.role,
  ip: callerOf(context).ip,
})

/** Host and path of a URL, both as they were sent. */
function targetOf(url: string): { host: string; path: string } {
  const host = url.indexOf('//') + 2
  const path = url.indexOf('/', host)
  if (path === -1) return { host: url.slice(host), path: '/' }
  const query = url.indexOf('?', path)
  return { host: url.slice(host, path), path: url.slice(path, query === -1 ? undefined : query) }
}

/** Which methods a path has, for Allow. */
function methodsFinder(doors: readonly { method: string; path: string }[]) {
  const known = doors.map(({ method, path }) => ({
    method,
    pattern: new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`),
  }))
  return (path: string) => [
    ...new Set(known.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method)),
  ]
}

const notAllowed = (method: string, methods: string[]) =>
  new FleetError('method_not_allowed', `${method} is not possible here; ${methods.join(', ')} is`)
