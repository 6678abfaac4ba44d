import { userInfo } from 'node:os'
import { parseArgs } from 'node:util'
import type { Actor } from '../access/actor.ts'
import { issueToken, withdrawToken } from '../access/issue-token.ts'
import { ROLES } from '../access/role.ts'
import { listTokens, TOKENS_MAX, type TokenRow } from '../access/token.sql.ts'
import type { Database } from '../db/connect.ts'
import { migrate } from '../db/migrate.ts'
import { FleetError } from '../errors.ts'
import { parseDuration } from '../kernel/duration.ts'
import { withDatabase } from './database.ts'

type Environment = Record<string, string | undefined>

const USE = `Say what to do with tokens:
  fleet-q token create --role ${ROLES.join('|')} [--name TEXT] [--expires 90d]
  fleet-q token list [--all]
  fleet-q token revoke NUMBER`

/** Needs the database and no pod: whoever may write to it has the real key anyway. */
export async function token(args: string[], env: Environment): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      role: { type: 'string' },
      name: { type: 'string' },
      expires: { type: 'string' },
      all: { type: 'boolean', default: false },
    },
  })
  const [verb, number] = positionals
  if (verb === 'create') await create(env, values)
  else if (verb === 'list') await list(env, values.all)
  else if (verb === 'revoke') await revoke(env, number)
  else throw new FleetError('invalid_input', USE)
}

async function create(
  env: Environment,
  { role: given, name, expires }: { role?: string; name?: string; expires?: string },
) {
  const role = ROLES.find((known) => known === given)
  if (!role) throw new FleetError('invalid_input', `--role must be one of ${ROLES.join(', ')}.\n${USE}`)
  const lastsSeconds = expires === undefined ? null : parseDuration(expires) / 1000
  const { row, token } = await onDatabase(env, (database) =>
    issueToken(database, actorOf('createToken'), {
      name: name ?? role,
      role,
      lastsSeconds,
    }),
  )
  // The token alone on standard output, so that it can go into a file or a variable.
  process.stderr.write(
    `Token ${row.id} (${row.name}), role ${row.role}, ${row.expires_at ? `good until ${row.expires_at.toISOString()}` : 'good until it is revoked'}. It is not shown again:\n`,
  )
  process.stdout.write(`${token}\n`)
}

async function list(env: Environment, all: boolean) {
  const rows = await onDatabase(env, (database) => database.run((sql) => listTokens(sql, all, TOKENS_MAX)))
  if (rows.length === 0)
    process.stdout.write(
      `There are no tokens${all ? '' : ' that are good'}. fleet-q token create makes one.\n`,
    )
  for (const row of rows) process.stdout.write(`${lineOf(row)}\n`)
}

async function revoke(env: Environment, number: string | undefined) {
  if (!number || !/^[1-9]\d{0,8}$/.test(number))
    throw new FleetError('invalid_input', `Say which: the number that fleet-q token list shows.\n${USE}`)
  const row = await onDatabase(env, (database) =>
    withdrawToken(database, actorOf('revokeToken'), Number(number)),
  )
  process.stdout.write(
    `Token ${row.id} (${row.name}) opens nothing any more; pods know it within three seconds.\n`,
  )
}

/** The first token may be made before the first pod has started. */
const onDatabase = <T>(env: Environment, work: (database: Database) => Promise<T>) =>
  withDatabase(env, 'token', async (database) => {
    await migrate(database)
    return work(database)
  })

function actorOf(operation: string): Actor {
  let user = 'somebody'
  try {
    user = userInfo().username
  } catch {
    // A container may have a number for a user, and no name for the number.
  }
  return { who: `${user}, by the command line`, role: 'admin', ip: undefined, requestId: '', operation }
}

function lineOf(row: TokenRow): string {
  const state = row.revoked_at
    ? `revoked ${row.revoked_at.toISOString()}`
    : row.expires_at
      ? `until ${row.expires_at.toISOString()}`
      : 'no end'
  const used = row.used_at ? `last used ${row.used_at.toISOString().slice(0, 16)}Z` : 'never used'
  return `${String(row.id).padStart(4)}  ${row.role.padEnd(8)}  ${row.name.padEnd(20)}  ${used.padEnd(28)}  ${state}`
}
