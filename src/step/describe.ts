import { NonRetryableError } from './handler.ts'

const MESSAGE_MAX = 8192
const STACK_MAX = 16_384

/** By name too: the class, or one that it extends, may come from another copy of the library. */
export function isNonRetryable(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (error instanceof NonRetryableError || error.name === 'NonRetryableError') return true
  for (let kind = error.constructor; typeof kind === 'function'; kind = Object.getPrototypeOf(kind))
    if (kind.name === 'NonRetryableError') return true
  return false
}

/**
 * Never throws, whatever a handler has thrown: an attempt that could not be handed in would hold its claim for ever, and
 * end its pod by the way. The fields of an error are what somebody put there (`Object.assign(new Error(), body)`).
 */
export function describeError(error: unknown): { class: string; message: string; stack?: string } {
  try {
    if (!(error instanceof Error))
      return { class: typeof error, message: textOf(error).slice(0, MESSAGE_MAX) }
    const { name, message, stack } = error
    const described = {
      class: textOf(name || error.constructor.name),
      message: textOf(message).slice(0, MESSAGE_MAX),
    }
    return stack === undefined ? described : { ...described, stack: textOf(stack).slice(0, STACK_MAX) }
  } catch {
    return { class: 'Unknown', message: 'what was thrown cannot be described' }
  }
}

const textOf = (value: unknown): string =>
  typeof value === 'string'
    ? value
    : ((typeof value === 'object' ? JSON.stringify(value) : undefined) ?? String(value))

/**
 * JSON that Postgres takes: NUL and lone surrogates, which jsonb refuses, become U+FFFD. A result that could not be
 * stored would otherwise make its settle fail for ever.
 */
export function json(value: unknown): string | null {
  const text = JSON.stringify(value)
  if (text === undefined) return null
  return /\\u0000|\\ud[89a-f]/i.test(text) ? JSON.stringify(clean(value)) : text
}

function clean(value: unknown): unknown {
  if (typeof value === 'string') return value.toWellFormed().replaceAll('\0', '\uFFFD')
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(clean)
  const plain: unknown = 'toJSON' in value ? JSON.parse(JSON.stringify(value)) : value
  if (typeof plain !== 'object' || plain === null) return clean(plain)
  return Object.fromEntries(Object.entries(plain).map(([name, field]) => [clean(name), clean(field)]))
}
