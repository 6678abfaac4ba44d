import type { z } from 'zod'
import { FleetError } from '../errors.ts'
import { parseJson } from '../kernel/json.ts'
import { BODY_BYTES_MAX, tooLarge, type Arrival } from './arrival.ts'
import type { Spec } from './endpoint.ts'
import { issuesOf, sentence } from './issues.ts'

/** Checks all but the body, which comes last: what else is wrong is said without reading it. */
export function readHead(
  spec: Spec,
  arrival: Arrival,
  params: Record<string, string>,
): Record<string, unknown> {
  const input: Record<string, unknown> = {}
  if (spec.params) input['params'] = checked(spec.params, params)
  if (spec.query) input['query'] = checked(spec.query, readQuery(arrival.query))
  else if (arrival.query !== '') refuseQuery(readQuery(arrival.query))
  if (!spec.body) refuseBody(arrival)
  else if (Number(arrival.header('content-length') ?? 0) > BODY_BYTES_MAX) throw tooLarge()
  return input
}

export function readBody(spec: Spec, schema: z.ZodType, arrival: Arrival, bytes: Uint8Array): unknown {
  const body = bytes.byteLength === 0 && spec.bodyOptional ? {} : parseBody(arrival, bytes)
  const key = spec.idempotent ? arrival.header('idempotency-key') : undefined
  return checked(schema, key === undefined ? body : withKey(body, key, schema))
}

const IN_OUR_WORDS = { error: sentence }

export function checked(schema: z.ZodType, value: unknown): unknown {
  const result = schema.safeParse(value, IN_OUR_WORDS)
  if (result.success) return result.data
  const issues = issuesOf(schema, result.error.issues)
  const first = issues[0]
  const more = issues.length > 1 ? `; and ${issues.length - 1} more, see issues` : ''
  const place = first === undefined || first.at === '' ? 'The request' : first.at
  throw new FleetError('invalid_input', `${place} ${first?.message ?? 'does not fit'}${more}`, { issues })
}

const invalid = (at: string, message: string) =>
  new FleetError('invalid_input', `${at === '' ? 'The request' : at} ${message}`, {
    issues: [{ at, message }],
  })

function readQuery(text: string): Record<string, string> {
  const pairs = [...new URLSearchParams(text)]
  const names = new Set<string>()
  for (const [name] of pairs) {
    if (names.has(name)) throw invalid(name.slice(0, 100), 'stands twice in the query')
    names.add(name)
  }
  return Object.fromEntries(pairs)
}

function refuseQuery(query: Record<string, string>): void {
  const name = Object.keys(query)[0]
  if (name !== undefined)
    throw invalid(name.slice(0, 100), 'is not a field of this request: it takes no query')
}

/** By its headers: a request that was not asked for a body has none that we could read. */
function refuseBody(arrival: Arrival): void {
  const hasBody =
    Number(arrival.header('content-length') ?? 0) !== 0 || arrival.header('transfer-encoding') !== undefined
  if (hasBody) throw invalid('', `takes no body: leave it out of ${arrival.method}`)
}

function parseBody(arrival: Arrival, bytes: Uint8Array): unknown {
  if (bytes.byteLength === 0) throw invalid('', 'needs a body')
  const type = arrival.header('content-type') ?? ''
  if (!/^application\/json *(; *charset="?utf-8"?)?$/i.test(type.trim()))
    throw new FleetError('not_json', 'The body must be sent as Content-Type: application/json, in UTF-8')
  if ((arrival.header('content-encoding') ?? 'identity') !== 'identity')
    throw new FleetError('not_json', 'The body must be sent without Content-Encoding')
  let text
  try {
    text = utf8.decode(bytes)
  } catch {
    throw invalid('', 'is not valid UTF-8')
  }
  return parseJson(text)
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** The header Idempotency-Key is another way to send the field. */
function withKey(body: unknown, key: string, schema: z.ZodType): unknown {
  if (!/^[\u0020-\u007e]{1,255}$/.test(key))
    throw invalid(
      'idempotency_key',
      'in the header Idempotency-Key must be 1 to 255 printable ASCII characters',
    )
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return checked(schema, body)
  if ('idempotency_key' in body && body.idempotency_key !== key)
    throw invalid('idempotency_key', 'differs from the header Idempotency-Key')
  return { ...body, idempotency_key: key }
}
