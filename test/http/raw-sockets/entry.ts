/**
 * Requests that no library would send, and what must come of each. `400` and the like: one answer, and the connection is
 * closed, for nobody knows where the next request begins. `kept`: one answer, and the next request on the connection is
 * served. `cut`: the client ends in the middle; nothing but a refusal may come. Never two answers, never a handler for
 * what hides in the rest.
 */
export type Outcome = number | { kept: number } | 'cut' | 'closed'
export interface Entry {
  name: string
  bytes: string
  outcome: Outcome
}

export const STEP = '{"type":"a","args":{}}'
export const CHUNKS = `${STEP.length.toString(16)}\r\n${STEP}\r\n0\r\n\r\n`
/** What a proxy that reads otherwise would have let through. */
export const SMUGGLED = 'GET /status/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n'

export const post = (headers: string[], body: string) =>
  ['POST /submit HTTP/1.1', 'Host: localhost', 'Content-Type: application/json', ...headers, '', body].join(
    '\r\n',
  )
export const get = (...headers: string[]) =>
  ['GET /health HTTP/1.1', 'Host: localhost', ...headers, '', ''].join('\r\n')
export const line = (text: string) => `${text}\r\nHost: localhost\r\n\r\n`

export const SIZE = STEP.length.toString(16)
