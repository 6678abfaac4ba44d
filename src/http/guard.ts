import { createHash, timingSafeEqual } from 'node:crypto'
import { FleetError } from '../errors.ts'
import type { Arrival } from './arrival.ts'
import { mayUse, type Role, type TokenRole } from './endpoint.ts'

/** Who may come in. Nobody may, unless a token, or the absence of all tokens on loopback, says so. */
export interface Guard {
  /** The role of the caller; throws where there is none. */
  admit(request: Arrival): Role
}

export interface GuardOptions {
  tokens: readonly { role: TokenRole; token: string }[]
  /** Serve without tokens where none is configured; the caller vouches that only loopback is bound. */
  openAccess: boolean
  /** Names beside those of loopback that Host may carry in open access; 'any' where something else guards the door. */
  hosts: readonly string[] | 'any'
  /** Paths that GET reaches without a token, in this spelling alone. */
  publicPaths: ReadonlySet<string>
}

export function createGuard({ tokens, openAccess, hosts, publicPaths }: GuardOptions): Guard {
  const known = tokens.map(({ role, token }) => ({ role, digest: digestOf(token) }))

  /** Every digest is compared, whichever fits, so that time tells nothing. */
  function roleOf(token: string): TokenRole | undefined {
    const digest = digestOf(token)
    let role: TokenRole | undefined
    for (const one of known)
      if (timingSafeEqual(one.digest, digest) && (role === undefined || mayUse(one.role, role)))
        role = one.role
    return role
  }

  return {
    admit(request) {
      if (known.length === 0 && openAccess) {
        if (hosts !== 'any') refuseForeignPage(request, hosts)
        return 'admin'
      }
      const token = /^Bearer +(\S.*)$/i.exec(request.header('authorization') ?? '')?.[1]
      const role = token === undefined ? undefined : roleOf(token)
      if (role !== undefined) return role
      if (request.method === 'GET' && publicPaths.has(request.path)) return 'public'
      throw new FleetError(
        'unauthenticated',
        token === undefined
          ? 'This needs a token: send the header Authorization: Bearer <token>'
          : 'This token is not known here',
      )
    },
  }
}

export function authorise(held: Role, needed: Role): void {
  if (mayUse(held, needed)) return
  throw new FleetError('permission_denied', `This needs the role ${needed}; the token has the role ${held}`)
}

const digestOf = (token: string) => createHash('sha256').update(token).digest()

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
      `Without a configured token only names of this machine are served, and ${host.slice(0, 100)} is none. Use http://localhost, or set FLEET_Q_TOKENS`,
    )
  const origin = request.header('origin')
  if (origin !== undefined && method !== 'GET' && origin.toLowerCase().replace(/^https?:\/\//, '') !== name)
    throw new FleetError(
      'permission_denied',
      `A page of ${origin.slice(0, 100)} may not change anything here`,
    )
}

const nameOf = (host: string) => host.replace(/:\d+$/, '')

const isLoopbackName = (name: string) =>
  name === 'localhost' || name === '[::1]' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(name)
