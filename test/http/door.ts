import assert from 'node:assert/strict'
import { pino } from 'pino'
import { createKeyring } from '../../src/access/keyring.ts'
import type { TokenRole } from '../../src/access/role.ts'
import type { Caller } from '../../src/http/endpoint.ts'
import { createApp, type AppOptions, type Handlers } from '../../src/http/server.ts'
import { standIns } from './stand-ins.ts'

/** A token for each role, as an operator would configure them. */
export const TOKENS = {
  viewer: 'viewer-token-0123456789',
  producer: 'producer-token-0123456789',
  operator: 'operator-token-0123456789',
  admin: 'admin-token-0123456789',
} as const satisfies Record<TokenRole, string>

export const ALL_TOKENS = [
  { role: 'viewer', token: TOKENS.viewer },
  { role: 'producer', token: TOKENS.producer },
  { role: 'operator', token: TOKENS.operator },
  { role: 'admin', token: TOKENS.admin },
] as const

export interface Seen {
  name: string
  input: Record<string, unknown>
  caller: Caller
}

interface DoorOptions extends Partial<AppOptions> {
  tokens?: readonly { role: TokenRole; token: string }[]
}

/** The door with stand-ins behind it: what reached them, what was logged, and a way to knock. */
export function openDoor({ handlers, tokens = [], ...options }: DoorOptions = {}) {
  const seen: Seen[] = []
  const lines: string[] = []
  const log = pino({ level: 'debug', base: null }, { write: (line: string) => void lines.push(line) })
  const app = createApp({
    handlers: recorded({ ...standIns, ...handlers }, seen),
    keyring: createKeyring(tokens, undefined),
    openAccess: true,
    hosts: [],
    rateLimit: 0,
    proxyHops: 0,
    log,
    version: '9.9.9',
    checkAnswers: true,
    ...options,
  })
  const ask = async (method: string, path: string, init: RequestInit = {}) =>
    app.request(`http://localhost:8000${path}`, { method, ...init })
  const send = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    ask('POST', path, {
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    })
  return { app, ask, send, seen, lines }
}

export interface Said {
  detail: string
  error: string
  error_type: string
  timestamp: string
  path: string
  request_id: string
  issues?: { at: string; message: string }[]
}

/** The body of an error, as it was sent. */
export async function said(response: Response): Promise<Said> {
  const body: Said = JSON.parse(await response.text())
  return body
}

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

function recorded(handlers: Handlers, seen: Seen[]): Handlers
function recorded(handlers: object, seen: Seen[]): object {
  return Object.fromEntries(
    Object.entries(handlers).map(([name, run]: [string, (...args: [Seen['input'], Caller]) => unknown]) => [
      name,
      async (input: Seen['input'], caller: Caller) => {
        seen.push({ name, input, caller })
        return run(input, caller)
      },
    ]),
  )
}

/** Sends a body that must be refused before any handler, and gives back what was said: 'status at: message'. */
export async function refusal(
  path: string,
  body: unknown,
  headers?: Record<string, string>,
): Promise<string> {
  const { send, seen } = openDoor()
  const response = await send(path, body, headers)
  assert.deepEqual(seen, [], 'no handler may see it')
  const { issues = [], detail, error, error_type, path: where, request_id, timestamp } = await said(response)
  assert.equal(error, detail)
  assert.equal(error_type, 'validation_error')
  assert.equal(where, path)
  assert.equal(response.headers.get('x-request-id'), request_id)
  assert.match(timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  return `${response.status} ${issues.map(({ at, message }) => `${at}: ${message}`).join('; ')}`
}

/** What the handler of /submit gets for a body. */
export async function accepted(body: unknown): Promise<unknown> {
  const { send, seen } = openDoor()
  const response = await send('/submit', body)
  assert.equal(response.status, 201, await response.text())
  return seen[0]?.input['body']
}
