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
  /** All of it, but for what is beyond the limit: then it throws. */
  body(bytesMax: number): Promise<Uint8Array>
}

/** What goes back. Plain values: a Response costs its caller more than the rest of an answer. */
export interface Reply {
  status: number
  headers: Record<string, string>
  body: string | Uint8Array
}

export class BodyTooLarge extends Error {}

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
    async body(bytesMax) {
      const chunks: Uint8Array[] = []
      let size = 0
      for await (const chunk of request.body ?? []) {
        size += chunk.byteLength
        if (size > bytesMax) throw new BodyTooLarge()
        chunks.push(chunk)
      }
      return Buffer.concat(chunks)
    },
  }
}

export const responseOf = ({ status, headers, body }: Reply): Response =>
  new Response(body === '' ? null : body, { status, headers })
