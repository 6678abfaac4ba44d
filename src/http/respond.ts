import type { Reply } from './arrival.ts'

/** No page of ours runs a script; what needs more than nothing says so itself. */
export const SECURE_HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy':
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
} as const

export const jsonReply = (
  requestId: string,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): Reply => ({
  status,
  headers: { 'content-type': 'application/json', 'x-request-id': requestId, ...SECURE_HEADERS, ...headers },
  body: JSON.stringify(body),
})

/** A page of its own making gets the headers that it does not set itself. */
export const pageReply = async (requestId: string, page: Response): Promise<Reply> => ({
  status: page.status,
  headers: { ...SECURE_HEADERS, ...Object.fromEntries(page.headers), 'x-request-id': requestId },
  body: new Uint8Array(await page.arrayBuffer()),
})
