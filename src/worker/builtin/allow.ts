import { FleetError } from '../../errors.ts'
import { isInRange, isPublicAddress, parseRange, type AddressRange } from './addresses.ts'

/**
 * One entry of FLEET_Q_HTTP_ALLOW: `[http://]host[:port][=range]`. It answers two questions at once: may this
 * URL be called, and at which addresses.
 */
export interface AllowEntry {
  readonly protocol: 'https:' | 'http:'
  /** Undefined for any port. */
  readonly port: number | undefined
  matchesHost(host: string): boolean
  permitsAddress(address: string): boolean
}

/** Says whether a connection may be made to an address. */
export type Permit = (address: string) => boolean

const SHAPE = /^(?:(https?):\/\/)?(\[[^\]]+\]|[^:=[\]]+)(?::(\d{1,5}|\*))?(?:=(.+))?$/
const DEFAULT_PORT = { 'https:': 443, 'http:': 80 }

export function parseAllow(entries: readonly string[]): AllowEntry[] {
  return entries.map(parseEntry)
}

/** Where a URL may be connected to; undefined when no entry lets it be called at all. */
export function permitFor(url: URL, entries: readonly AllowEntry[]): Permit | undefined {
  const host = hostOf(url)
  const port = portOf(url)
  const open = entries.filter(
    (entry) =>
      entry.protocol === url.protocol &&
      (entry.port === undefined || entry.port === port) &&
      entry.matchesHost(host),
  )
  if (open.length === 0) return undefined
  return (address) => open.some((entry) => entry.permitsAddress(address))
}

/** The host as it is resolved and compared: no brackets, no dot at the end. The URL has lowered its case. */
export const hostOf = (url: URL) => url.hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')

export const portOf = (url: URL) => Number(url.port) || (url.protocol === 'https:' ? 443 : 80)

function parseEntry(text: string): AllowEntry {
  const [, scheme = 'https', host = '', portText, pin] = SHAPE.exec(text) ?? []
  if (host === '') throw refused(text, 'it is not [http://]host[:port][=range]; put IPv6 into brackets')
  const protocol = scheme === 'http' ? 'http:' : 'https:'
  const port = portText === undefined ? DEFAULT_PORT[protocol] : Number(portText)
  if (port > 65_535 || port === 0) throw refused(text, `there is no port ${portText}`)
  const pinned = pin === undefined ? undefined : parseRange(pin.replace(/^\[(.*)\]$/, '$1'))
  if (pin !== undefined && pinned === undefined)
    throw refused(text, `"${pin}" is neither an IP address nor a range like 10.0.0.0/8`)
  return { protocol, port: Number.isNaN(port) ? undefined : port, ...hostRule(text, host, pinned) }
}

function hostRule(
  text: string,
  host: string,
  pinned: AddressRange | undefined,
): Pick<AllowEntry, 'matchesHost' | 'permitsAddress'> {
  const literal = parseRange(host.replace(/^\[(.*)\]$/, '$1'))
  if (literal !== undefined) {
    if (pinned !== undefined) throw refused(text, 'an address needs no =range')
    const within = (address: string) => isInRange(address, literal)
    return { matchesHost: within, permitsAddress: within }
  }
  const permitsAddress: Permit =
    pinned === undefined ? isPublicAddress : (address) => isInRange(address, pinned)
  if (host === '*') return { matchesHost: () => true, permitsAddress }
  const wild = host.startsWith('*.')
  const name = canonicalName(wild ? host.slice(2) : host)
  if (name === undefined)
    throw refused(text, `"${host}" is neither a host name, *.a-host-name, an IP address nor a range`)
  return {
    matchesHost: wild ? (called) => called.endsWith(`.${name}`) : (called) => called === name,
    permitsAddress,
  }
}

/** The name as a URL would spell it (lower case, punycode), so that both sides compare alike. */
function canonicalName(host: string): string | undefined {
  if (!/^[^\s/\\?#@%*:[\]]+$/.test(host) || !URL.canParse(`https://${host}`)) return undefined
  const name = hostOf(new URL(`https://${host}`))
  // '0x7f.1' and '2130706433' are addresses in disguise: nobody should have to see through that in a review.
  return parseRange(name) === undefined ? name : undefined
}

const refused = (entry: string, reason: string) =>
  new FleetError('config_invalid', `"${entry}" cannot be an allowed host of http steps: ${reason}`, {
    issues: [{ at: entry, message: reason }],
  })
