import type { Database } from '../db/connect.ts'
import { ROLES, type TokenRole } from './role.ts'
import { goodTokens, hadTokens, noteUse, type GoodToken } from './token.sql.ts'
import { digestOf, isToken } from './token.ts'

/** The tokens that open this pod's door: those of its settings, and those of the database. */
export interface Keyring {
  /** Undefined: nobody's. */
  holderOf(shown: Shown): Holder | undefined
  /** No token was ever made: where only this machine gets in, nobody needs one. */
  isEmpty(): boolean
  /**
   * Before either is believed: a promise where the database is to be asked first, once for many requests; it fails where
   * the database is away. Most of the time there is nothing to wait for.
   */
  fresh(shown?: Shown): Promise<void> | undefined
}

/** A token as it came, and its digest, which no two look-ups need to reckon anew. */
export interface Shown {
  token: string
  /** What it is looked up by, so that no time that this takes tells anything of the token. */
  digest: string
}

export const shownOf = (token: string): Shown => ({ token, digest: digestOf(token).toString('base64') })

export interface Holder {
  /** One of each token. */
  id: string
  role: TokenRole
  who: string
  /** Of the database: made by us, with 256 bits of chance. Undefined for one of the settings, which people choose. */
  row: number | undefined
}

interface Key extends Holder {
  /** By performance.now(). */
  goodUntil: number
  useNotedAt: number
}

/** Older than this the ring is read again, behind the request. What was revoked is good for no longer than LATE_MS. */
const OLD_MS = 1000
const LATE_MS = 3000
/** A token of ours that is not on the ring may have been made a moment ago: the ring is read so soon again for it. */
const STRANGE_MS = 200
const USE_NOTED_EVERY_MS = 60_000

export function createKeyring(
  configured: readonly { role: TokenRole; token: string }[],
  database: Database | undefined,
): Keyring {
  const ofSettings = configured.map(({ role, token }, i): [string, Key] => [
    shownOf(token).digest,
    {
      id: `configured ${i}`,
      role,
      who: 'a configured token',
      goodUntil: Number.POSITIVE_INFINITY,
      row: undefined,
      useNotedAt: 0,
    },
  ])
  // One token with two roles has the higher: of two entries a map keeps the last.
  ofSettings.sort(([, a], [, b]) => ROLES.indexOf(a.role) - ROLES.indexOf(b.role))
  let keys = new Map(ofSettings)
  let everMade = configured.length > 0
  let readAt = Number.NEGATIVE_INFINITY
  let reading: Promise<void> | undefined
  let anew: Promise<void> | undefined

  /** Several may wait for one look. */
  function read(): Promise<void> {
    reading ??= readOnce().finally(() => {
      reading = undefined
    })
    return reading
  }

  async function readOnce() {
    const begunAt = performance.now()
    if (database)
      await database.run(async (sql) => {
        const [rows, [row]] = await Promise.all([goodTokens(sql), hadTokens(sql)])
        everMade ||= row?.had ?? false
        const before = keys
        keys = new Map([
          ...rows.map((each) => keyOf(each, begunAt, before)),
          // Last, for they win: one that an operator has put into the settings may not be weakened by a row.
          ...ofSettings,
        ])
      })
    readAt = begunAt
  }

  function find({ digest }: Shown): Holder | undefined {
    const key = keys.get(digest)
    const now = performance.now()
    if (!key || key.goodUntil <= now) return undefined
    if (key.row !== undefined && now - key.useNotedAt > USE_NOTED_EVERY_MS) {
      key.useNotedAt = now
      const { row } = key
      database?.run((sql) => noteUse(sql, row)).catch(() => {})
    }
    return key
  }

  /** Begun after now, and one for all who come until then: a token that was made a moment ago is on the ring by then. */
  function readAnew(): Promise<void> {
    anew ??= (async () => {
      await reading?.catch(() => {})
      await new Promise((resolve) => setTimeout(resolve, readAt + STRANGE_MS - performance.now()))
      anew = undefined
      await read()
    })()
    return anew
  }

  return {
    isEmpty: () => !everMade,
    holderOf: find,
    fresh(shown) {
      if (!database) return undefined
      const held = shown && keys.get(shown.digest)
      // One of the settings is good while the database is away.
      if (held && held.row === undefined) return undefined
      const age = performance.now() - readAt
      if (age > LATE_MS) return read()
      if (age > OLD_MS) read().catch(() => {})
      return shown && !held && isToken(shown.token) ? readAnew() : undefined
    },
  }
}

function keyOf(row: GoodToken, readAt: number, before: Map<string, Key>): [string, Key] {
  const name = row.digest.toString('base64')
  return [
    name,
    {
      id: `token ${row.id}`,
      role: row.role,
      who: `token ${row.id} (${row.name})`,
      goodUntil: readAt + (row.left_ms ?? Number.POSITIVE_INFINITY),
      row: row.id,
      useNotedAt: before.get(name)?.useNotedAt ?? Number.NEGATIVE_INFINITY,
    },
  ]
}
