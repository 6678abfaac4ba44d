import type { Role } from '../access/role.ts'
import type { Arrival, Reply } from './arrival.ts'
import type { Answer, Caller, HandlersOf, Spec } from './endpoint.ts'
import { authorise } from './guard.ts'
import { checked, readBody, readHead } from './input.ts'
import { jsonReply } from './respond.ts'

/**
 * A request on its way to its answer; to handlers it is their caller. A class, because a getter in an object literal
 * gives each object a shape of its own: 4 us, and the request stays in memory until a full collection.
 */
export class Asked implements Caller {
  readonly arrival: Arrival
  readonly requestId: string
  /** Nobody's, until the guard has looked. */
  role: Role = 'public'
  who = 'nobody known'
  ip: string | undefined
  /** Undefined where none was reached. */
  operation: string | undefined

  constructor(arrival: Arrival, requestId: string) {
    this.arrival = arrival
    this.requestId = requestId
    this.ip = arrival.ip
  }

  onGone(act: () => void) {
    return this.arrival.onGone(act)
  }

  header(name: string) {
    return this.arrival.header(name.toLowerCase())
  }
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
  /** Who the sender is by now. */
  admitAgain(arrival: Arrival): Promise<Role>
}

const LONG_BODY_MS = 100

/** One route from the request to the answer. */
export const bind =
  ({ spec, run }: Route, { checkAnswers, admitAgain }: BindOptions) =>
  async (asked: Asked, params: Record<string, string>): Promise<Reply> => {
    const { arrival, requestId, role } = asked
    authorise(role, spec.role)
    const input = readHead(spec, arrival, params)
    if (spec.body) {
      const askedAt = performance.now()
      const bytes = await arrival.body()
      // A body may take half a minute, and the token may have been revoked meanwhile.
      if (performance.now() - askedAt > LONG_BODY_MS) authorise(await admitAgain(arrival), spec.role)
      input['body'] = readBody(spec, spec.body, arrival, bytes)
    }
    const answer = await run(input, asked)
    if (checkAnswers) checkAnswer(spec, answer)
    const status = answer.status ?? (answer.replayed ? 200 : spec.status)
    const reply = jsonReply(requestId, status, answer.body, answer.headers)
    if (answer.replayed) reply.headers['idempotency-replayed'] = 'true'
    if (status === 503) reply.headers['retry-after'] ??= '5'
    // No content means no content, whatever the handler had to tell.
    if (status === 204) reply.body = ''
    const next = nextPage(spec, answer, arrival)
    if (next !== undefined) reply.headers['link'] = `<${next}>; rel="next"`
    return reply
  }

/** Lists carry next_cursor; for whoever follows Link instead, the same request with that cursor. */
function nextPage(
  spec: Spec,
  { body, nextCursor }: Answer<Spec>,
  { path, query }: Arrival,
): string | undefined {
  if (!spec.query) return undefined
  const told =
    typeof body === 'object' && body !== null && 'next_cursor' in body ? body.next_cursor : nextCursor
  if (typeof told !== 'string') return undefined
  const searchParams = new URLSearchParams(query)
  searchParams.set('cursor', told)
  searchParams.delete('offset')
  return `${path}?${searchParams.toString()}`
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
