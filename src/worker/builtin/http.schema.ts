import { validateHeaderName, validateHeaderValue } from 'node:http'
import { z } from 'zod'

const URL_CHARS_MAX = 8192
const HEADERS_MAX = 50
const HEADER_BYTES_MAX = 12 * 1024
export const REDIRECTS_MAX = 5

/** Headers that belong to the connection, to the length of the body or to the address: ours to write. */
const OURS = new Set([
  'connection',
  'content-length',
  'expect',
  'host',
  'http2-settings',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

const headers = z.record(z.string(), z.string()).superRefine((given, ctx) => {
  const names = Object.keys(given).map((name) => name.toLowerCase())
  const bytes = Object.entries(given).reduce((sum, [name, value]) => sum + name.length + value.length, 0)
  if (names.length > HEADERS_MAX || bytes > HEADER_BYTES_MAX)
    ctx.addIssue(`at most ${HEADERS_MAX} headers and ${HEADER_BYTES_MAX} characters in all`)
  if (new Set(names).size < names.length) ctx.addIssue('a header is given twice')
  for (const [name, value] of Object.entries(given)) {
    const reason = headerRefusal(name, value)
    if (reason !== undefined) ctx.addIssue({ code: 'custom', path: [name], message: reason })
  }
})

/** What a step of type http is asked to do. `refusal` says why a URL may not be called. */
export const httpInput = (refusal: (url: string) => string | undefined) =>
  z
    .strictObject({
      url: z
        .string()
        .max(URL_CHARS_MAX)
        .superRefine((text, ctx) => {
          const reason = refusal(text)
          if (reason !== undefined) ctx.addIssue(reason)
        })
        .describe('http or https; its host must be allowed by FLEET_Q_HTTP_ALLOW'),
      method: z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']).default('GET'),
      headers: headers.default({}),
      body: z.json().optional().describe('text is sent as it is, anything else as JSON'),
      timeout_seconds: z
        .number()
        .min(0.1)
        .max(600)
        .default(30)
        .describe('for the whole call, redirects included'),
      expect_status: z
        .union([z.int().min(200).max(599), z.array(z.int().min(200).max(599)).min(1).max(50)])
        .optional()
        .describe('the statuses that are a success, instead of 2xx and 3xx'),
      follow_redirects: z.int().min(0).max(REDIRECTS_MAX).default(0).describe('0: a redirect is a result'),
    })
    .refine(({ method, body }) => body === undefined || (method !== 'GET' && method !== 'HEAD'), {
      path: ['body'],
      message: 'GET and HEAD carry no body',
    })
    .describe('Calls a URL and keeps the answer')

export type HttpArgs = z.output<ReturnType<typeof httpInput>>

function headerRefusal(name: string, value: string): string | undefined {
  const low = name.toLowerCase()
  if (OURS.has(low) || low.startsWith('proxy-')) return 'is written by Fleet-Q and cannot be set'
  try {
    validateHeaderName(name)
    validateHeaderValue(name, value)
    return undefined
  } catch {
    // Line breaks would end the header and begin whatever follows them.
    return 'is not a header: names are letters, digits and dashes, values have no line break or control character'
  }
}
