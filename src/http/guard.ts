import { isIP } from 'node:net'
import { shownOf, type Keyring, type Shown } from '../access/keyring.ts'
import { mayUse, type Role } from '../access/role.ts'
import { FleetError } from '../errors.ts'
import type { Arrival } from './arrival.ts'
import { createRate } from './rate.ts'

/** Who may come in. Nobody may, unless a token, or the absence of all tokens on loopback, says so. */
export interface Guard {
  /** Who the caller is; throws, or fails, where he is nobody. */
  admit(request: Arrival): Admitted | Promise<Admitted>
}

export interface Admitted {
  role: Role
  who: string
  ip: string | undefined
}

export interface GuardOptions {
  keyring: Keyring
  /** Serve everybody for as long as no token was ever made; the caller vouches that only loopback is bound. */
  openAccess: boolean
  /** Names beside those of loopback that Host may carry in open access; 'any' where something else guards the door. */
  hosts: readonly string[] | 'any'
  /** Paths that GET reaches without a token, in this spelling alone. */
  publicPaths: ReadonlySet<string>
  /** Requests a second of each token, and of each address without one; 0 for any number. */
  rateLimit: number
  /** Proxies of yours in front: so many entries of X-Forwarded-For, from its end, are believed. */
  proxyHops: number
}

/** Tokens that are nobody's, from one address: no person mistypes more, and no guess is worth the wait. */
const WRONG_TOKENS = { perSecond: 10 / 60, burst: 10 }

export function createGuard(options: GuardOptions): Guard {
  const { keyring, hosts, publicPaths, rateLimit, proxyHops } = options
  const requests = createRate({ perSecond: rateLimit, burst: 2 * rateLimit })
  const wrongTokens = createRate(WRONG_TOKENS)
  /** Tokens that were right, by the address that they came from: they pass where others have guessed too often. */
  const proven = createRecent(10_000)

  const isOpen = () => options.openAccess && keyring.isEmpty()

  function admitNow(request: Arrival, shown: Shown | undefined): Admitted {
    const ip = addressOf(request, proxyHops)
    if (isOpen()) {
      if (hosts !== 'any') refuseForeignPage(request, hosts)
      if (ip !== undefined && !isLoopbackAddress(ip)) spend(placeOf(ip))
      return { role: 'admin', who: 'nobody known: no token was ever made', ip }
    }
    // Not counted: who floods us from the address of the probes would have the pod taken for ill.
    if (isPublic(request)) return { role: 'public', who: 'nobody known', ip }
    if (shown === undefined) {
      if (ip !== undefined) spend(placeOf(ip))
      throw new FleetError(
        'unauthenticated',
        'This needs a token: send the header Authorization: Bearer <token>',
      )
    }
    const holder = keyring.holderOf(shown)
    if (ip !== undefined && holder?.row === undefined) slowGuesses(placeOf(ip), holder?.id)
    if (holder === undefined) throw new FleetError('unauthenticated', 'This token is not known here')
    spend(holder.id)
    return { role: holder.role, who: holder.who, ip }
  }

  function spend(whose: string) {
    if (rateLimit === 0) return
    const seconds = requests.take(whose)
    if (seconds > 0)
      throw new FleetError(
        'rate_limited',
        `More than ${rateLimit} requests a second of one caller are not served. Wait, send many steps at once by POST /submit/batch, or raise FLEET_Q_RATE_LIMIT`,
        { retryAfterSeconds: seconds },
      )
  }

  /** Of those of the settings, which people choose. Also a right one waits where too many wrong ones came from, or a guess that is right would be the one served. */
  function slowGuesses(ip: string, holderId: string | undefined) {
    const pair = `${ip} ${holderId}`
    if (holderId !== undefined && (proven.has(pair) || wrongTokens.has(ip))) {
      proven.add(pair)
      return
    }
    const seconds = wrongTokens.take(ip)
    if (seconds > 0)
      throw new FleetError(
        'rate_limited',
        `From ${ip} came more than ${WRONG_TOKENS.burst} tokens that are not known here. Wait, and send the right one`,
        { retryAfterSeconds: seconds },
      )
  }

  const isPublic = ({ method, path }: Arrival) => method === 'GET' && publicPaths.has(path)

  return {
    admit(request) {
      const token = /^Bearer +(\S.*)$/i.exec(request.header('authorization') ?? '')?.[1]
      const shown = token === undefined ? undefined : shownOf(token)
      // A probe is answered while the database is away.
      const wait = isPublic(request) ? undefined : keyring.fresh(shown)
      if (wait === undefined) return admitNow(request, shown)
      return wait.then(
        () => admitNow(request, shown),
        (error: unknown) => {
          if (isOpen()) return admitNow(request, shown)
          throw error
        },
      )
    },
  }
}

export function authorise(held: Role, needed: Role): void {
  if (mayUse(held, needed)) return
  throw new FleetError('permission_denied', `This needs the role ${needed}; the token has the role ${held}`)
}

/** What was lately added; the oldest goes when there is too much. */
function createRecent(max: number) {
  const items = new Set<string>()
  return {
    has: (item: string) => items.has(item),
    add(item: string) {
      if (items.has(item)) return
      const [oldest] = items.size < max ? [] : items
      if (oldest !== undefined) items.delete(oldest)
      items.add(item)
    },
  }
}

/** The nth entry from the end is what the outermost proxy of ours has seen; what stands before it anybody can write. */
function addressOf(request: Arrival, proxyHops: number): string | undefined {
  if (proxyHops === 0) return request.ip
  const seen = (request.header('x-forwarded-for') ?? '').split(',').map((entry) => entry.trim())
  const address = seen.at(-proxyHops)
  // Some write the port behind it.
  const bare = address?.replace(/^\[([^\]]+)\](?::\d+)?$/, '$1').replace(/^([\d.]+):\d+$/, '$1')
  return bare !== undefined && isIP(bare) !== 0 ? bare : request.ip
}

/**
 * Without tokens everything that reaches loopback is let in, and a browser on this machine reaches it for any
 * page it shows: through a name that was pointed at 127.0.0.1 (DNS rebinding: the Host gives it away), or by a
 * request without a body, which no preflight announces (the Origin gives it away).
 */
function refuseForeignPage(request: Arrival, hosts: readonly string[]): void {
  const { method, host } = request
  const name = host.toLowerCase()
  if (!isLoopbackName(nameOf(name)) && !hosts.includes(name) && !hosts.includes(nameOf(name)))
    throw new FleetError(
      'permission_denied',
      `Without a token only names of this machine are served, and ${host.slice(0, 100)} is none. Use http://localhost, or make a token: fleet-q token create`,
    )
  const origin = request.header('origin')
  if (origin !== undefined && method !== 'GET' && origin.toLowerCase().replace(/^https?:\/\//, '') !== name)
    throw new FleetError(
      'permission_denied',
      `A page of ${origin.slice(0, 100)} may not change anything here`,
    )
}

/** Who has a network has 2^64 addresses of IPv6. */
const placeOf = (ip: string) =>
  ip.includes(':') && !ip.includes('.') ? networkOf(ip) : ip.replace(/^::ffff:/, '')

function networkOf(ip: string): string {
  const [front = '', back] = ip.split('::')
  const head = front.split(':').filter(Boolean)
  const zeros = back === undefined ? 0 : 8 - head.length - back.split(':').filter(Boolean).length
  return `${[...head, ...Array<string>(zeros).fill('0')].slice(0, 4).join(':')}::/64`
}

const nameOf = (host: string) => host.replace(/:\d+$/, '')

const isLoopbackName = (name: string) =>
  name === 'localhost' || name === '[::1]' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(name)

const isLoopbackAddress = (ip: string) => ip === '::1' || /^(::ffff:)?127\./.test(ip)
