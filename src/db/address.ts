import postgres from 'postgres'
import { FleetError } from '../errors.ts'
import { isUnavailable, refusesSettings, sqlState } from './failure.ts'
import { isPlain, isUntrusted, wayTo } from './tls.ts'

export const ADDRESS_FORM =
  'is no address of a Postgres. It has the form postgres://USER:PASSWORD@HOST:5432/DATABASE; in the password write ' +
  '%40 for @, %2F for /, %23 for # and %25 for %'

/** The driver is the judge of what it can read. This opens no connection. */
export function isAddress(url: string): boolean {
  if (!/^postgres(ql)?:\/\//.test(url)) return false
  try {
    return postgres(wayTo(url).url, { max: 1 }).options.max === 1
  } catch (error) {
    // What is wrong with its sslmode is told in better words when it is used.
    return error instanceof FleetError
  }
}

/** Why the first question to a database got no answer, with what to check; the password is never shown. */
export function noContact(error: unknown, url: string): unknown {
  const { user, host, database } = partsOf(url)
  switch (sqlState(error)) {
    case '28P01':
    case '28000':
      return new FleetError(
        'database_error',
        `The Postgres at ${host} refuses the user "${user}". Check the user and the password in DATABASE_URL.`,
        { cause: error },
      )
    case '3D000':
      return new FleetError(
        'database_error',
        `There is no database "${database}" in the Postgres at ${host}. Create it (create database "${database}"), ` +
          'or correct the name at the end of DATABASE_URL.',
        { cause: error },
      )
    case '42501':
      return new FleetError(
        'database_error',
        `The user "${user}" may not create the schema fleet_q in the database "${database}", or may not use it. ` +
          `Grant it (grant create on database "${database}" to "${user}"), or name its owner in DATABASE_URL.`,
        { cause: error },
      )
  }
  if (refusesSettings(error))
    return new FleetError(
      'config_invalid',
      `At ${host} a PgBouncer answers, and it does not pass on the settings of a connection. ` +
        'Set FLEET_Q_DATABASE_POOLER=1, or let DATABASE_URL name Postgres itself.',
      { cause: error },
    )
  if (isUntrusted(error))
    return new FleetError(
      'database_error',
      `The Postgres at ${host} shows a certificate that cannot be trusted (${sqlState(error)}). Name the authority ` +
        'behind it: ?sslrootcert=/path/to/ca.pem at the end of DATABASE_URL. With ?sslmode=no-verify nobody looks who answers.',
      { cause: error },
    )
  if (isPlain(error))
    return new FleetError(
      'database_error',
      `The Postgres at ${host} does not speak TLS. Switch it on there, or put ` +
        '?sslmode=disable at the end of DATABASE_URL if something else guards the way to it.',
      { cause: error },
    )
  if (!isUnavailable(error)) return error
  return new FleetError(
    'database_unavailable',
    `The database at ${host} cannot be reached. Check host and port in DATABASE_URL, and that Postgres runs there; ` +
      'without DATABASE_URL a pod brings its own.',
    { retryAfterSeconds: 2, cause: error },
  )
}

/** Read loosely: an address may name several hosts, and a message is all that this is for. */
function partsOf(url: string) {
  const [, user = '', host = '', database = ''] =
    /^\w+:\/\/(?:([^:@]*)(?::.*)?@)?([^/?@]*)(?:\/([^?]*))?/.exec(url) ?? []
  return { user: plain(user), host, database: plain(database) }
}

function plain(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
