import assert from 'node:assert/strict'
import { BlockList, isIPv6 } from 'node:net'
import { test } from 'node:test'
import { assert as holds, ipV4, ipV6, nat, oneof, pre, property } from 'fast-check'
import { isInRange, isPublicAddress, parseRange } from '../../src/worker/builtin/addresses.ts'

const NOT_PUBLIC = words(`
    # unspecified, loopback, private
    0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 127.0.0.1 127.255.255.254 172.16.0.0 172.31.255.255
    192.168.0.1 192.168.255.255
    # link-local and metadata, carrier-grade NAT, the wire server of Azure
    169.254.169.254 169.254.0.0 100.64.0.0 100.100.100.200 100.127.255.255 168.63.129.16
    # protocol assignments, documentation, benchmarks, 6to4 relays
    192.0.0.1 192.0.0.192 192.0.2.1 198.51.100.7 203.0.113.9 198.18.0.1 198.19.255.255 192.88.99.1
    # multicast, reserved, broadcast
    224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    # the same in version 6
    :: ::1 0:0:0:0:0:0:0:1 fe80::1 febf::1 fec0::1 fc00::1 fd00:ec2::254 ff02::1 2001:db8::1 3fff::1
    100::1 5f00::1 4000::1
    # v4 in disguise: mapped, compatible, translated, NAT64, 6to4, Teredo
    ::ffff:127.0.0.1 ::ffff:7f00:1 0:0:0:0:0:ffff:a9fe:a9fe ::ffff:8.8.8.8 ::ffff:0:127.0.0.1
    ::127.0.0.1 ::7f00:1 64:ff9b::127.0.0.1 64:ff9b::a00:1 64:ff9b:1::1 2002:7f00:1:: 2002:0a00:0001::1
    2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:10::1
  `)

const PUBLIC = words(`
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
    168.63.129.15 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0
    192.0.3.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 203.0.112.255 223.255.255.255
    2606:4700:4700::1111 2001:4860:4860::8888 2a00:1450:4001:82a::200e 2001:200::1 2003::1
  `)

const NO_ADDRESS = [
  ...words(`
    localhost 127.1 2130706433 0x7f.0.0.1 0177.0.0.1 010.0.0.1 1.1.1.256 1.1.1.1.1 1.1.1 2606:::1
    2606::1::1 2606:4700::1%eth0 12345:: 2606:1.1.1.1::1 1:2:3:4:5:6:7 1:2:3:4:5:6:7:8:9
    2606:4700:4700:0:0:0:0:1:: [2606:4700::1] :
  `),
  '',
  ' 1.1.1.1',
  '1.1.1.1 ',
  '1.1.1.1\n',
]

test('no address of a private, special or disguised kind counts as public', () => {
  for (const ip of NOT_PUBLIC) assert.equal(isPublicAddress(ip), false, ip)
})

test('the neighbours of every special range count as public', () => {
  for (const ip of PUBLIC) assert.equal(isPublicAddress(ip), true, ip)
})

test('what is no address in its one plain spelling is not public', () => {
  for (const text of NO_ADDRESS) {
    assert.equal(isPublicAddress(text), false, JSON.stringify(text))
    assert.equal(parseRange(text), undefined, JSON.stringify(text))
  }
})

test('ranges hold what the block list of Node holds, for any address', () => {
  const anyAddress = oneof(ipV4(), ipV6())
  holds(
    property(anyAddress, anyAddress, nat(128), (ip, network, anyPrefix) => {
      pre(kindOf(ip) === kindOf(network))
      const prefix = anyPrefix % (isIPv6(network) ? 129 : 33)
      const range = parseRange(`${network}/${prefix}`)
      assert.ok(range)
      const oracle = new BlockList()
      oracle.addSubnet(network, prefix, kindOf(network))
      assert.equal(isInRange(ip, range), oracle.check(ip, kindOf(ip)))
      assert.equal(isInRange(network, range), true)
    }),
    { numRuns: 2000 },
  )
})

const kindOf = (ip: string) => (isIPv6(ip) ? 'ipv6' : 'ipv4')

test('a range of version 4 does not hold the mapped form of its addresses', () => {
  const range = parseRange('10.0.0.0/8')
  assert.ok(range)
  assert.equal(isInRange('10.1.2.3', range), true)
  assert.equal(isInRange('::ffff:10.1.2.3', range), false)
})

test('a range needs a prefix that fits its version', () => {
  for (const text of ['10.0.0.0/33', 'fd00::/129', '10.0.0.0/', '10.0.0.0/-1', '10.0.0.0/8/8', '10.0.0.0/x'])
    assert.equal(parseRange(text), undefined, text)
})

/** The words of a text, without the lines that begin with #. */
function words(text: string): string[] {
  const lines = text.split('\n').filter((line) => !line.trim().startsWith('#'))
  return lines.join(' ').trim().split(/\s+/)
}
