import type { z } from 'zod'
import { FleetError } from '../errors.ts'
import { parseJson } from '../kernel/json.ts'
import type { Spec } from './endpoint.ts'
import { issuesOf, sentence } from './issues.ts'

export const BODY_BYTES_MAX = 1_048_576

/** What a request brings, before anybody has looked at it. */
export interface Raw {
  request: Request
  params: Record<string, string>
  /** The query as it was sent, without the question mark. */
  query: string
}

/** Reads and checks all that a spec asks for. The body comes last: what else is wrong is said without reading it. */
export async function readInput(spec: Spec, raw: Raw): Promise<Record<string, unknown>> {
  const input: Record<string, unknown> = {}
  if (spec.params) input['params'] = checked(spec.params, raw.params)
  const query = readQuery(raw.query)
  if (spec.query) input['query'] = checked(spec.query, query)
  else refuseQuery(query)
  if (spec.body) input['body'] = checked(spec.body, await readBody(spec, spec.body, raw.request))
  else refuseBody(raw.request)
  return input
}

export function checked(schema: z.ZodType, value: unknown): unknown {
  const result = schema.safeParse(value, { error: sentence })
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
function refuseBody({ headers, method }: Request): void {
  const hasBody =
    Number(headers.get('content-length') ?? 0) !== 0 || headers.get('transfer-encoding') !== null
  if (hasBody) throw invalid('', `takes no body: leave it out of ${method}`)
}

async function readBody(spec: Spec, schema: z.ZodType, request: Request): Promise<unknown> {
  const bytes = await readBytes(request).catch(asCutOff)
  const body = bytes.byteLength === 0 && spec.bodyOptional ? {} : parseBody(request, bytes)
  const key = spec.idempotent ? request.headers.get('idempotency-key') : null
  return key === null ? body : withKey(body, key, schema)
}

function parseBody({ headers }: Request, bytes: ArrayBuffer): unknown {
  if (bytes.byteLength === 0) throw invalid('', 'needs a body')
  const type = headers.get('content-type') ?? ''
  if (!/^application\/json *(; *charset="?utf-8"?)?$/i.test(type.trim()))
    throw new FleetError('not_json', 'The body must be sent as Content-Type: application/json, in UTF-8')
  if ((headers.get('content-encoding') ?? 'identity') !== 'identity')
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

const tooLarge = () =>
  new FleetError('body_too_large', `The body is larger than ${BODY_BYTES_MAX} bytes: send less at a time`)

/** Whoever hangs up in the middle is no error of ours. */
function asCutOff(error: unknown): never {
  throw error instanceof FleetError ? error : invalid('', 'ended before its body was complete')
}

async function readBytes(request: Request): Promise<ArrayBuffer> {
  const declared = request.headers.get('content-length')
  if (Number(declared ?? 0) > BODY_BYTES_MAX) throw tooLarge()
  // Node hands on no more than the declared length, and refuses a length beside chunks, so this read is bounded;
  // through a stream a submit takes 240 us instead of 100, its client included.
  if (declared !== null) {
    const bytes = await request.arrayBuffer()
    if (bytes.byteLength > BODY_BYTES_MAX) throw tooLarge()
    return bytes
  }
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength
    if (size > BODY_BYTES_MAX) throw tooLarge()
    chunks.push(chunk)
  }
  return new Blob(chunks).arrayBuffer()
}

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
