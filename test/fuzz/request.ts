import fc from 'fast-check'
import { PAGES, places, type Place, type Schema, type Operation } from './contract.ts'
import { hostileHeader, hostilePath, hostileQuery, hostileUrl, METHODS } from './hostile-head.ts'
import { changes, hostileJson } from './hostile-json.ts'
import { change, treeOf, write } from './tree.ts'
import { valueOf } from './values.ts'

/** A request before it is sent: plain values, which fast-check can shrink. */
export interface Wish {
  method: string
  /** In the order of the target; `known`: one of those that answers have told under this name. */
  target: Piece[]
  headers: [string, string][]
  role: string
  /** As text, one character a byte where `spoilt` says so. */
  body: string | undefined
  /** Bytes put somewhere into the body. */
  spoilt: { at: number; bytes: number[] } | undefined
  /** Sizes of its chunks; undefined: it has a length. */
  chunk: number | undefined
}

type Piece = { text: string } | { known: string; pick: number }

export const ROLES = ['viewer', 'producer', 'operator', 'admin'] as const
let strangers = 0
const nextAddress = () => `10.${(++strangers >> 16) & 255}.${(strangers >> 8) & 255}.${strangers & 255}`

export const tokenOf = (role: string) => `${role}-0123456789abcdef-canary`

const piece = (name: string): fc.Arbitrary<Piece> =>
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ known: fc.constant(name), pick: fc.nat(1000) }) },
    { weight: 3, arbitrary: fc.record({ text: hostileUrl }) },
    { weight: 1, arbitrary: fc.record({ text: fc.string({ maxLength: 30 }).map(encodeURIComponent0) }) },
  )

/** Half of a surrogate pair has no bytes. */
const encodeURIComponent0 = (text: string) => encodeURIComponent(text.toWellFormed()) || 'x'

/** `/status/{step_id}` in its pieces. */
const pathOf = ({ path }: Place): fc.Arbitrary<Piece[]> =>
  fc.tuple(
    ...path
      .split(/(\{\w+\})/)
      .map((part) => (part.startsWith('{') ? piece(part.slice(1, -1)) : fc.constant<Piece>({ text: part }))),
  )

const queryOf = ({ path, operation }: Place): fc.Arbitrary<Piece[]> =>
  path.endsWith('/wait') ? WAITS : queryByName(operation)

/** Thousands of requests would each take half a minute. */
const WAITS = fc
  .constantFrom('timeout_secs=0', 'timeoutSecs=0.02', 'timeout_secs=', 'timeout_secs=-1', 'timeout_secs=1e9')
  .map((text): Piece[] => [{ text: `?${text}` }])

const queryByName = (operation: Operation): fc.Arbitrary<Piece[]> =>
  fc
    .tuple(
      ...(operation.parameters ?? [])
        .filter((parameter) => parameter.in === 'query')
        .map(({ name, schema }) =>
          fc.option(
            fc
              .oneof({ weight: 3, arbitrary: fitting(name, schema) }, fc.record({ text: hostileUrl }))
              .map((value): Piece[] => [{ text: `${name}=` }, value]),
            { nil: [] },
          ),
        ),
    )
    .map((given) =>
      given.filter((each) => each.length > 0).flatMap((each, i) => [{ text: i === 0 ? '?' : '&' }, ...each]),
    )

/** A wait is not drawn from its schema, for the same reason. */
const fitting = (name: string, schema: Schema): fc.Arbitrary<Piece> =>
  name === 'wait_seconds'
    ? fc.record({ text: fc.constantFrom('0', '0.001', '0.02') })
    : fittingOf(name, schema)

const fittingOf = (name: string, schema: Schema): fc.Arbitrary<Piece> =>
  name === 'cursor' || name === 'pod'
    ? fc.record({ known: fc.constant(name === 'pod' ? 'pod_id' : name), pick: fc.nat(1000) })
    : valueOf(schema).map((value) => ({ text: encodeURIComponent0(String(value)) }))

const bodyOf = ({ operation }: Place): fc.Arbitrary<string | undefined> => {
  const schema = operation.requestBody?.content['application/json'].schema
  if (!schema) return fc.constant(undefined)
  const fits = valueOf(schema).map(treeOf)
  const spoilt = fc.tuple(fits, changes).map(([tree, wishes]) => write(wishes.reduce(change, tree)))
  const body = fc.oneof(
    { weight: 6, arbitrary: fits.map(write) },
    { weight: 6, arbitrary: spoilt },
    { weight: 1, arbitrary: hostileJson },
  )
  return fc.option(body, { nil: undefined, freq: 20 })
}

const often = <T>(usual: T, seldom: fc.Arbitrary<T>, weight = 9): fc.Arbitrary<T> =>
  fc.oneof({ weight, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: seldom })

const atPlace = (place: Place): fc.Arbitrary<Wish> =>
  fc.record({
    method: often(place.method, fc.constantFrom(...METHODS), 19),
    target: fc
      .tuple(
        pathOf(place),
        often<Piece[] | undefined>(
          undefined,
          hostileQuery.map((text) => [{ text }]),
        ),
        queryOf(place),
      )
      .map(([path, hostile, query]) => [
        ...path,
        ...(place.path.endsWith('/wait') ? query : (hostile ?? query)),
      ]),
    headers: often<[string, string][]>([], fc.array(hostileHeader, { minLength: 1, maxLength: 4 }), 6),
    role: often('admin', fc.constantFrom(...ROLES, 'none', 'unknown'), 4),
    body: place.operation.requestBody ? bodyOf(place) : often(undefined, hostileJson, 29),
    spoilt: often(
      undefined,
      fc.record({
        at: fc.nat(),
        bytes: fc.array(fc.constantFrom(0, 0x22, 0x80, 0xc0, 0xed, 0xf5, 0xff), { maxLength: 4 }),
      }),
      19,
    ),
    chunk: often(undefined, fc.constantFrom(1, 7, 100, 65_536), 9),
  })

const elsewhere: fc.Arbitrary<Wish> = fc.record({
  method: fc.constantFrom(...METHODS),
  target: fc.oneof(hostilePath, fc.constantFrom(...PAGES)).map((text) => [{ text }]),
  headers: fc.array(hostileHeader, { maxLength: 2 }),
  role: fc.constantFrom(...ROLES, 'none', 'unknown'),
  body: often(undefined, hostileJson),
  spoilt: fc.constant(undefined),
  chunk: fc.constant(undefined),
})

export const wishes: fc.Arbitrary<Wish> = fc.oneof(
  { weight: 20, arbitrary: fc.oneof(...places.map(atPlace)) },
  { weight: 1, arbitrary: elsewhere },
)

export interface Sent {
  method: string
  target: string
  bytes: Buffer
  /** Of the body. */
  size: number
}

/** The bytes that go out. `known` gives what answers have told. */
export function bytesOf(wish: Wish, known: (name: string, pick: number) => string): Sent {
  const target = wish.target
    .map((each) => ('text' in each ? each.text : known(each.known, each.pick)))
    .join('')
  const headers: [string, string][] = [['Host', 'localhost']]
  if (wish.role !== 'none') headers.push(['Authorization', `Bearer ${tokenOf(wish.role)}`])
  // Each from an address of its own: ten wrong tokens of one, and the eleventh is turned away untried.
  if (wish.role === 'unknown') headers.push(['X-Forwarded-For', nextAddress()])
  let framed: Buffer = Buffer.alloc(0)
  let size = 0
  if (wish.body !== undefined) {
    const body = spoil(Buffer.from(wish.body.replaceAll(/\p{Surrogate}/gu, '?')), wish.spoilt)
    size = body.length
    if (!wish.headers.some(([name]) => name === 'Content-Type'))
      headers.push(['Content-Type', 'application/json'])
    headers.push(
      wish.chunk === undefined ? ['Content-Length', String(size)] : ['Transfer-Encoding', 'chunked'],
    )
    framed = wish.chunk === undefined ? body : chunked(body, Math.max(wish.chunk, Math.ceil(size / 500)))
  }
  const lines = [...headers, ...wish.headers].map(([name, value]) => `${name}: ${value}\r\n`)
  const head = Buffer.from(`${wish.method} ${target} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1')
  return { method: wish.method, target, bytes: Buffer.concat([head, framed]), size }
}

function spoil(body: Buffer, spoilt: Wish['spoilt']): Buffer {
  if (!spoilt) return body
  const at = spoilt.at % (body.length + 1)
  return Buffer.concat([body.subarray(0, at), Buffer.from(spoilt.bytes), body.subarray(at)])
}

function chunked(body: Buffer, size: number): Buffer {
  const parts: Buffer[] = []
  for (let at = 0; at < body.length; at += size) {
    const part = body.subarray(at, at + size)
    parts.push(Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n'))
  }
  return Buffer.concat([...parts, Buffer.from('0\r\n\r\n')])
}
