/** A block of addresses: all that share the first `prefix` of `width` bits. */
export interface AddressRange {
  readonly width: 32 | 128
  readonly prefix: number
  readonly bits: bigint
}

type Address = Pick<AddressRange, 'width' | 'bits'>

/** Addresses of version 4 that are not a public machine (IANA special-purpose registry). */
const NOT_PUBLIC_4 = ranges(
  '0.0.0.0/8', // this host; Linux connects 0.0.0.0 to loopback
  '10.0.0.0/8', // private
  '100.64.0.0/10', // carrier-grade NAT; also the metadata service of Alibaba
  '127.0.0.0/8', // loopback
  '168.63.129.16/32', // looks public, is the wire server inside every Azure machine
  '169.254.0.0/16', // link-local: the metadata services of most clouds
  '172.16.0.0/12', // private
  '192.0.0.0/24', // protocol assignments; also the metadata service of Oracle
  '192.0.2.0/24', // documentation
  '192.88.99.0/24', // 6to4 relays
  '192.168.0.0/16', // private
  '198.18.0.0/15', // benchmarks
  '198.51.100.0/24', // documentation
  '203.0.113.0/24', // documentation
  '224.0.0.0/4', // multicast
  '240.0.0.0/4', // reserved, and broadcast
)

/**
 * In version 6 the public part is named instead: whatever lies outside is refused, and so are loopback,
 * unspecified, link-local, site-local, unique-local, multicast, discard, v4-mapped, v4-compatible and NAT64.
 */
const PUBLIC_6 = ranges('2000::/3')
const NOT_PUBLIC_6 = ranges(
  '2001::/23', // protocol assignments: Teredo carries a v4 address, ORCHID is no address
  '2001:db8::/32', // documentation
  '2002::/16', // 6to4 carries a v4 address
  '3fff::/20', // documentation
)

/** Whether an address is one of a machine on the public internet. What is no address at all is not. */
export function isPublicAddress(ip: string): boolean {
  const address = parseAddress(ip)
  if (address === undefined) return false
  if (address.width === 32) return !NOT_PUBLIC_4.some((range) => holds(range, address))
  const isGlobal = PUBLIC_6.some((range) => holds(range, address))
  return isGlobal && !NOT_PUBLIC_6.some((range) => holds(range, address))
}

/** Whether an address lies in a range; v4-mapped addresses lie in no v4 range. */
export function isInRange(ip: string, range: AddressRange): boolean {
  const address = parseAddress(ip)
  return address !== undefined && holds(range, address)
}

/** '10.0.0.0/8', 'fd00::/8', or one address; undefined for anything else. */
export function parseRange(text: string): AddressRange | undefined {
  const [ip = '', prefixText, ...rest] = text.split('/')
  const address = parseAddress(ip)
  if (address === undefined || rest.length > 0) return undefined
  if (prefixText === undefined) return { ...address, prefix: address.width }
  const prefix = /^\d{1,3}$/.test(prefixText) ? Number(prefixText) : Number.NaN
  return prefix <= address.width ? { ...address, prefix } : undefined
}

function holds(range: AddressRange, address: Address): boolean {
  const shift = BigInt(range.width - range.prefix)
  return range.width === address.width && range.bits >> shift === address.bits >> shift
}

/** Only the spelling with four decimal numbers without leading zeros is version 4 here. */
function parseAddress(ip: string): Address | undefined {
  const four = parseFour(ip)
  if (four !== undefined) return { width: 32, bits: four }
  const six = parseSix(ip)
  return six === undefined ? undefined : { width: 128, bits: six }
}

function parseFour(ip: string): bigint | undefined {
  const parts = ip.split('.')
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255))
    return undefined
  return parts.reduce((bits, part) => (bits << 8n) | BigInt(part), 0n)
}

function parseSix(ip: string): bigint | undefined {
  const halves = ip.split('::')
  if (halves.length > 2) return undefined
  const [head, tail] = [groupsOf(halves[0] ?? '', halves.length === 1), groupsOf(halves[1] ?? '', true)]
  if (head === undefined || tail === undefined) return undefined
  const missing = 8 - head.length - tail.length
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined
  const groups = [...head, ...Array.from({ length: missing }, () => 0n), ...tail]
  return groups.reduce((bits, group) => (bits << 16n) | group, 0n)
}

/** Groups of 16 bits; the last may be written as a v4 address where it ends the whole. */
function groupsOf(text: string, endsAddress: boolean): bigint[] | undefined {
  if (text === '') return []
  const groups: bigint[] = []
  const words = text.split(':')
  for (const [i, word] of words.entries()) {
    const four = endsAddress && i === words.length - 1 ? parseFour(word) : undefined
    if (four !== undefined) groups.push(four >> 16n, four & 0xffffn)
    else if (/^[0-9a-f]{1,4}$/i.test(word)) groups.push(BigInt(`0x${word}`))
    else return undefined
  }
  return groups
}

function ranges(...texts: string[]): AddressRange[] {
  return texts.map(parseRange).filter((range) => range !== undefined)
}
