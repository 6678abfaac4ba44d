import { FleetError } from '../errors.ts'

/** A request, whoever brings it: a socket (wire.ts), or a test with a Request of the web. */
export interface Arrival {
  readonly method: string
  readonly host: string
  /** As it was sent, undecoded: each thing has one spelling. */
  readonly path: string
  /** Without the question mark. */
  readonly query: string
  readonly ip: string | undefined
  /** By its name in small letters; the values of one that was sent twice, with a comma between. */
  header(name: string): string | undefined
  /** Calls when the sender has hung up; answers how to forget that again. */
  onGone(act: () => void): () => void
  /** All of it; fails with an error of ours where it is too large, or ends too soon. */
  body(): Promise<Uint8Array>
}

/** What goes back. Plain values: a Response costs its caller more than the rest of an answer. */
export interface Reply {
  status: number
  headers: Record<string, string>
  body: string | Uint8Array
}

export const BODY_BYTES_MAX = 1_048_576

export const tooLarge = () =>
  new FleetError('body_too_large', `The body is larger than ${BODY_BYTES_MAX} bytes: send less at a time`)

/** Whoever hangs up in the middle is no error of ours. */
export function cutOff(): FleetError {
  const message = 'ended before its body was complete'
  return new FleetError('invalid_input', `The request ${message}`, { issues: [{ at: '', message }] })
}

/** Of a path with its query, both as they were sent. */
export function splitTarget(target: string): { path: string; query: string } {
  const mark = target.indexOf('?')
  if (mark === -1) return { path: target, query: '' }
  const fragment = target.indexOf('#', mark)
  return {
    path: target.slice(0, mark),
    query: target.slice(mark + 1, fragment === -1 ? undefined : fragment),
  }
}

/** A request that no socket has brought. */
export function arrivalOf(request: Request): Arrival {
  const { origin, host } = new URL(request.url)
  return {
    ...splitTarget(request.url.slice(origin.length)),
    method: request.method,
    host,
    ip: undefined,
    header: (name) => request.headers.get(name) ?? undefined,
    onGone: () => () => {},
    body: () => bodyOf(request),
  }
}

async function bodyOf(request: Request): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let size = 0
  try {
    for await (const chunk of request.body ?? []) {
      size += chunk.byteLength
      if (size > BODY_BYTES_MAX) break
      chunks.push(chunk)
    }
  } catch {
    throw cutOff()
  }
  if (size > BODY_BYTES_MAX) throw tooLarge()
  return Buffer.concat(chunks)
}

export const responseOf = ({ status, headers, body }: Reply): Response =>
  new Response(body === '' ? null : body, { status, headers })
