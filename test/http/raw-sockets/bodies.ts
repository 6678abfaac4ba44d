import { CHUNKS, get, post, SIZE, SMUGGLED, STEP, type Entry } from './entry.ts'

export const others: Entry[] = [
  { name: 'no HTTP at all', bytes: 'hello\r\n\r\n', outcome: 400 },
  {
    name: 'a TLS hello',
    bytes: '\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003\r\n\r\n',
    outcome: 400,
  },
  { name: 'the preface of HTTP/2', bytes: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', outcome: 400 },
  {
    name: 'a line of the proxy protocol',
    bytes: `PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n${get()}`,
    outcome: 400,
  },
  { name: 'the proxy protocol, second version', bytes: '\r\n\r\n\u0000\r\nQUIT\n\u0021\u0011', outcome: 400 },
  { name: 'SSH', bytes: 'SSH-2.0-OpenSSH_9.0\r\n', outcome: 400 },
  { name: 'SMTP', bytes: 'EHLO localhost\r\n', outcome: 400 },
  {
    name: 'a start-up message of Postgres',
    bytes: '\u0000\u0000\u0000\u0008\u0004\u00d2\u0016\u002f',
    outcome: 400,
  },
  { name: 'Redis', bytes: '*1\r\n$4\r\nPING\r\n', outcome: 400 },
  { name: 'a cookie of RDP', bytes: '\u0003\u0000\u0000\u0013\u000e\u00e0\u0000\u0000', outcome: 400 },
  { name: 'high bytes', bytes: '\u00ff'.repeat(100), outcome: 400 },
  { name: 'NULs', bytes: '\u0000'.repeat(100), outcome: 400 },
  { name: 'an answer', bytes: 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', outcome: 400 },
]

export const bodies: Entry[] = [
  { name: 'GET with a body', bytes: get('Content-Length: 2', 'Connection: close') + '{}', outcome: 400 },
  {
    name: 'GET with chunks',
    bytes: get('Transfer-Encoding: chunked', 'Connection: close') + '2\r\n{}\r\n0\r\n\r\n',
    outcome: 400,
  },
  { name: 'a megabyte and a byte, told', bytes: post(['Content-Length: 1048577'], ''), outcome: 413 },
  { name: 'a terabyte, told', bytes: post(['Content-Length: 1099511627776'], ''), outcome: 413 },
  { name: 'garbage behind a request', bytes: `${get('Connection: close')}garbage\r\n\r\n`, outcome: 200 },
  {
    name: 'garbage behind a body',
    bytes: post([`Content-Length: ${STEP.length}`, 'Connection: close'], `${STEP}garbage`),
    outcome: 201,
  },
  {
    name: 'a request in the body of another',
    bytes: post([`Content-Length: ${SMUGGLED.length}`], SMUGGLED),
    outcome: { kept: 400 },
  },
  {
    name: 'garbage behind a request that keeps its connection',
    bytes: `${get()}garbage\r\n\r\n`,
    outcome: 200,
  },
  { name: 'a request behind Connection: close', bytes: get('Connection: close') + SMUGGLED, outcome: 200 },
]

export const ends: Entry[] = [
  ['nothing', ''],
  ['half a method', 'GE'],
  ['a line without its end', 'GET /health HTTP/1.1'],
  ['a head without its end', 'GET /health HTTP/1.1\r\nHost: localhost\r\n'],
  ['half a header', 'GET /health HTTP/1.1\r\nHost: loc'],
  ['half a body', post(['Content-Length: 100'], '{"type":')],
  ['no byte of a body', post(['Content-Length: 100'], '')],
  ['half a chunk', post(['Transfer-Encoding: chunked'], '16\r\n{"type"')],
  ['chunks without the last one', post(['Transfer-Encoding: chunked'], `${SIZE}\r\n${STEP}\r\n`)],
  ['the last chunk without its end', post(['Transfer-Encoding: chunked'], `${SIZE}\r\n${STEP}\r\n0\r\n`)],
  ['a chunk without its size', post(['Transfer-Encoding: chunked'], '1')],
].map(([name = '', bytes = '']) => ({ name: `ends after ${name}`, bytes, outcome: 'cut' as const }))

/** Unusual, and allowed. */
export const fine: Entry[] = [
  {
    name: 'Upgrade with a body',
    bytes: post(['Connection: Upgrade', 'Upgrade: h2c', `Content-Length: ${STEP.length}`], STEP),
    outcome: 201,
  },
  {
    name: 'an extension of a chunk without a name',
    bytes: post(['Transfer-Encoding: chunked'], `${SIZE};=\r\n${STEP}\r\n0\r\n\r\n`),
    outcome: { kept: 201 },
  },
  { name: 'chunks', bytes: post(['Transfer-Encoding: chunked'], CHUNKS), outcome: { kept: 201 } },
  {
    name: 'Chunked in capitals',
    bytes: post(['TRANSFER-ENCODING: CHUNKED'], CHUNKS),
    outcome: { kept: 201 },
  },
  {
    name: 'a chunk for each byte',
    bytes: post(
      ['Transfer-Encoding: chunked'],
      `${Array.from(STEP, (unit) => `1\r\n${unit}\r\n`).join('')}0\r\n\r\n`,
    ),
    outcome: { kept: 201 },
  },
  {
    name: 'an extension of a chunk',
    bytes: post(['Transfer-Encoding: chunked'], `${SIZE};a="b"\r\n${STEP}\r\n0\r\n\r\n`),
    outcome: { kept: 201 },
  },
  {
    name: 'zeros before a size',
    bytes: post(['Transfer-Encoding: chunked'], `000${SIZE}\r\n${STEP}\r\n0\r\n\r\n`),
    outcome: { kept: 201 },
  },
  {
    name: 'a trailer, which nobody reads',
    bytes: post(['Transfer-Encoding: chunked'], `${SIZE}\r\n${STEP}\r\n0\r\nX-A: b\r\n\r\n`),
    outcome: { kept: 201 },
  },
  {
    name: 'zeros before a length',
    bytes: post([`Content-Length: 000${STEP.length}`], STEP),
    outcome: { kept: 201 },
  },
  {
    name: 'no space behind a colon',
    bytes: post([`Content-Length:${STEP.length}`], STEP),
    outcome: { kept: 201 },
  },
  {
    name: 'spaces around a value',
    bytes: post([`Content-Length:   ${STEP.length}  `], STEP),
    outcome: { kept: 201 },
  },
  {
    name: 'Upgrade to something',
    bytes: get('Connection: Upgrade', 'Upgrade: websocket'),
    outcome: 200,
  },
  {
    name: 'Upgrade to HTTP/2',
    bytes: get('Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAAP__'),
    outcome: 200,
  },
  { name: 'an expectation nobody knows', bytes: get('Expect: the worst', 'Connection: close'), outcome: 417 },
  {
    name: 'a lookup in a header',
    bytes: get('User-Agent: ${jndi:ldap://127.0.0.1/a}', 'X-Request-Id: ${env:DATABASE_URL}'),
    outcome: { kept: 200 },
  },
  {
    name: 'other names that a proxy may believe',
    bytes: get(
      'X-Original-Url: /status/smuggled',
      'X-Rewrite-Url: /status/smuggled',
      'X-Http-Method-Override: POST',
    ),
    outcome: { kept: 200 },
  },
]
