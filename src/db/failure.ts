import { FleetError } from '../errors.ts'

/** The SQLSTATE or the driver's code of a failure, also of one in our words; undefined for anything that is not one. */
export const sqlState = (error: unknown): string | undefined => {
  if (error instanceof FleetError) return sqlState(error.cause)
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : undefined
}

/** Classes and codes that say: not now. 08 connection, 57P shutdown, 53 resources, 25006 read-only. */
const UNAVAILABLE =
  /^(08...|57P0[1-5]|53[1-4]0.|25006|CONNECTION_.*|CONNECT_TIMEOUT|ECONN.*|ENOTFOUND|EAI_AGAIN|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENETDOWN|ERR_(STREAM|SOCKET)_.*|55P03|57014)$/

export const isUnavailable = (error: unknown): boolean => {
  if (error instanceof FleetError) return error.code === 'database_unavailable'
  if (error instanceof AggregateError) return error.errors.some(isUnavailable)
  return UNAVAILABLE.test(sqlState(error) ?? '') || isBroken(error)
}

/**
 * The server had trouble of its own, and ended the session: on a full disk it cannot even begin one ("could not write
 * init file", XX000). Nothing is wrong with what it was asked.
 */
const isBroken = (error: unknown): boolean =>
  /^(XX|58)/.test(sqlState(error) ?? '') &&
  ['FATAL', 'PANIC'].includes(String((error as { severity?: unknown }).severity))

/**
 * PgBouncer's word for settings in the start-up message, which it does not pass on. It comes under the code of what
 * time mends, and no time mends it.
 */
export const refusesSettings = (error: unknown): boolean =>
  error instanceof Error && error.message.startsWith('unsupported startup parameter')

/**
 * A socket that broke, or that could not be made in time: the driver may have lost count of what it sent over it. Seen
 * with postgres.js 3.4.9: after a reset some queries are answered to nobody, and wait for ever.
 */
export const breaksConnections = (error: unknown): boolean =>
  /^(ECONNRESET|ECONNABORTED|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENETDOWN|CONNECT_TIMEOUT|ERR_(STREAM|SOCKET)_.*)$/.test(
    error instanceof FleetError ? '' : (sqlState(error) ?? ''),
  )

/** A failure of the driver or of Postgres, in our words; anything else as it was. */
export function inOurWords(error: unknown): unknown {
  if (error instanceof FleetError) return error
  if (isUnavailable(error))
    return new FleetError(
      'database_unavailable',
      'The database cannot be reached just now. Try again shortly.',
      {
        retryAfterSeconds: 2,
        cause: error,
      },
    )
  const state = sqlState(error)
  if (state !== undefined && /^[0-9A-Z]{5}$/.test(state))
    return new FleetError('database_error', 'The database refused the operation.', { cause: error })
  return error
}
