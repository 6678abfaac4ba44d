import { BODY_BYTES_MAX } from '../../src/http/arrival.ts'
import { SECURE_HEADERS } from '../../src/http/respond.ts'
import type { Answer } from './connection.ts'
import { PAGES, placeAt, type Schema } from './contract.ts'
import { misfit } from './fits.ts'
import { tokenOf, type Sent } from './request.ts'

const PROBLEM: Schema = { $ref: '#/components/schemas/Problem' }

/** Of a request that reaches no operation. */
const NOWHERE = [400, 401, 403, 404, 405, 413, 429]
/** What Node refuses before there is a request: too long a head, and what is no HTTP. */
const UNREAD = [400, 431]

/** A stack, a file of ours, a statement, a word of Postgres or of the driver. */
const INSIDES =
  /\\n +at |node_modules|node:internal|\/src\/[a-z]+\/|PostgresError|SQLSTATE|violates |invalid input syntax|relation \\"|fleet_q\.[a-z_]+|\bECONN|DATABASE_URL|select \/\*/

/** What is wrong with an answer; undefined where nothing is. */
export function faultOf(sent: Sent, answer: Answer | undefined): string | undefined {
  // Who still sends when a refusal comes may find the connection reset before he has read it.
  if (!answer) return sent.size > BODY_BYTES_MAX ? undefined : 'closed without an answer'
  const { status, headers, body } = answer
  const text = body.toString()
  if (status >= 500 && !isDraining(sent, status) && !isTooEarly(sent, status))
    return `status ${status}: ${text.slice(0, 500)}`
  for (const name of Object.keys(SECURE_HEADERS))
    if (!headers.has(name)) return `status ${status} has no header ${name}`
  if (text.includes(tokenOf('')) || [...headers.values()].some((value) => value.includes(tokenOf(''))))
    return `a token stands in the answer: ${text.slice(0, 300)}`
  if (headers.has('x-evil')) return 'a header that was injected'
  if (status >= 400 && INSIDES.test(withoutEcho(text, sent)))
    return `tells of its insides: ${text.slice(0, 500)}`
  if (sent.method === 'HEAD')
    return NOWHERE.includes(status) || status === 431 ? undefined : `HEAD is answered ${status}`
  return bodyFault(sent, status, headers.get('content-type') ?? '', text)
}

/** A pod that was told to drain says so; whoever asks for that is the fuzzer. */
const isDraining = ({ target }: Sent, status: number) =>
  status === 503 && /^(https?:\/\/[^/]+)?\/readyz/.test(target)

/** Who waits for an execution is told so where it goes on. */
const isTooEarly = ({ target }: Sent, status: number) => status === 504 && /\/wait\?/.test(target)

function bodyFault(sent: Sent, status: number, type: string, text: string): string | undefined {
  const place = placeAt(sent.method, sent.target)
  if (!place && status === 200 && PAGES.some((page) => sent.target.includes(page))) return undefined
  if (!type.startsWith('application/json')) return `status ${status} is sent as ${type}`
  const told = place?.operation.responses[status]?.content['application/json'].schema
  const schema =
    told ?? (UNREAD.includes(status) || (!place && NOWHERE.includes(status)) ? PROBLEM : undefined)
  if (!schema) return `status ${status}, which openapi.json does not name: ${text.slice(0, 300)}`
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    return `status ${status} with a body that is no JSON: ${text.slice(0, 300)}`
  }
  const found = misfit(body, schema)
  return found === undefined ? undefined : `status ${status}: ${found}`
}

/** What the caller sent may stand in what he gets. */
function withoutEcho(text: string, { bytes }: Sent): string {
  return INSIDES.test(bytes.toString('latin1').slice(0, 20_000)) ? '' : text
}
