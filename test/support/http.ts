export interface Reply {
  status: number
  headers: Headers
  // What came back is checked by the test that reads it.
  body: Record<string, unknown>
}

export async function call(
  url: string,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
  limitMs?: number,
): Promise<Reply> {
  const response = await fetch(`${url}${path}`, {
    method,
    ...(limitMs === undefined ? {} : { signal: AbortSignal.timeout(limitMs) }),
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  return {
    status: response.status,
    headers: response.headers,
    body: text ? (JSON.parse(text) as Record<string, unknown>) : {},
  }
}

export const get = (url: string, path: string, headers?: Record<string, string>) =>
  call(url, 'GET', path, undefined, headers)
export const post = (url: string, path: string, body?: unknown, headers?: Record<string, string>) =>
  call(url, 'POST', path, body, headers)

/** Submits and gives back the id; fails the test when it is not accepted. */
export async function submit(
  url: string,
  step: { type: string; args?: object } & Record<string, unknown>,
): Promise<string> {
  const reply = await post(url, '/submit', { args: {}, ...step })
  if (reply.status !== 201) throw new Error(`submit answered ${reply.status}: ${JSON.stringify(reply.body)}`)
  return String(reply.body['step_id'])
}
