import { CHUNKS, post, SIZE, SMUGGLED, STEP, type Entry, type Outcome } from './entry.ts'

/** Where does the body end? Each of these could be read in two ways, by a proxy and by us. */

/** Each a body in chunks behind headers that one of two servers could read as a length. */
const withChunks = (name: string, headers: string[], outcome: Outcome = 400): Entry => ({
  name,
  bytes: post(headers, CHUNKS) + SMUGGLED,
  outcome,
})
const LENGTH = `Content-Length: ${CHUNKS.length}`

const twoFramings: Entry[] = [
  withChunks('CL.TE', [LENGTH, 'Transfer-Encoding: chunked']),
  withChunks('TE.CL', ['Transfer-Encoding: chunked', 'Content-Length: 4']),
  withChunks('CL.0 behind chunks', ['Transfer-Encoding: chunked', 'Content-Length: 0']),
  withChunks('TE.TE, the second unknown', ['Transfer-Encoding: chunked', 'Transfer-Encoding: cow']),
  withChunks('TE.TE, the first unknown', ['Transfer-Encoding: cow', 'Transfer-Encoding: chunked']),
  withChunks('TE.TE, both chunked', ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked', LENGTH]),
  withChunks('TE identity beside a length', ['Transfer-Encoding: identity', LENGTH]),
  ...[
    'Transfer-Encoding: xchunked',
    'Transfer-Encoding: chunkedx',
    'Transfer-Encoding: "chunked"',
    'Transfer-Encoding: chunked, identity',
    'Transfer-Encoding: chunked, cow',
    'Transfer-Encoding: chunked;q=1',
    'Transfer-Encoding: \u000bchunked',
    'Transfer-Encoding: \u00a0chunked',
    'Transfer-Encoding: chu\u0000nked',
    'Transfer-Encoding: chunked\u0000',
    'Transfer-Encoding : chunked',
    'Transfer-Encoding\t: chunked',
    'Transfer-Encoding\u0000: chunked',
    ' Transfer-Encoding: chunked',
    '\tTransfer-Encoding: chunked',
    'Transfer-Encoding:\r\n chunked',
    'Transfer-Encoding\r\n: chunked',
    'X: x\rTransfer-Encoding: chunked',
    'Transfer-Encoding: ',
    'Transfer-Encoding: ,chunked,',
    'Transfer-Encoding: gzip',
    'Transfer-Encoding: deflate',
    'Transfer Encoding: chunked',
    '"Transfer-Encoding": chunked',
  ].map((header) => withChunks(`${JSON.stringify(header)} beside a length`, [header, LENGTH])),
  ...['chunked, identity', 'xchunked', 'chunked cow', 'identity', 'gzip', ''].map((value) =>
    withChunks(`Transfer-Encoding: "${value}" alone`, [`Transfer-Encoding: ${value}`]),
  ),
]

const withLength = (name: string, headers: string[], outcome: Outcome = 400): Entry => ({
  name,
  bytes: post(headers, STEP) + SMUGGLED,
  outcome,
})

const lengths: Entry[] = [
  withLength('two lengths that differ', [`Content-Length: ${STEP.length}`, 'Content-Length: 0']),
  withLength('the same length twice', [`Content-Length: ${STEP.length}`, `Content-Length: ${STEP.length}`]),
  ...[
    `+${STEP.length}`,
    `-${STEP.length}`,
    `${STEP.length}, ${STEP.length}`,
    `${STEP.length},0`,
    `0x${STEP.length.toString(16)}`,
    `${STEP.length}.0`,
    `${STEP.length}e0`,
    `${STEP.length} 0`,
    `${STEP.length};a`,
    `"${STEP.length}"`,
    `\u0000${STEP.length}`,
    '',
    'x',
    'NaN',
    'Infinity',
    '1e1',
    '18446744073709551616',
    '99999999999999999999999999',
    '\u0661\u0662',
  ].map((value) => withLength(`Content-Length: ${JSON.stringify(value)}`, [`Content-Length: ${value}`])),
  withLength('Content-Length : with a space', [`Content-Length : ${STEP.length}`]),
  withLength('a length over two lines', ['Content-Length:', ` ${STEP.length}`]),
  withLength('Content_Length is no length, so the step is no request', [`Content_Length: ${STEP.length}`]),
]

const inChunks = (name: string, body: string, outcome: Outcome = 400): Entry => ({
  name: `chunks: ${name}`,
  bytes: post(['Transfer-Encoding: chunked'], body) + SMUGGLED,
  outcome,
})

const chunks: Entry[] = [
  ...[
    'x',
    '-1',
    '+16',
    '0x16',
    ' 16',
    '16 16',
    '1.0',
    '',
    '\u0000',
    'ffffffffffffffffffff',
    '16h',
    '"16"',
    '16\u0000',
  ].map((size) => inChunks(`size ${JSON.stringify(size)}`, `${size}\r\n${STEP}\r\n0\r\n\r\n`)),
  inChunks('a size that is too small', `5\r\n${STEP}\r\n0\r\n\r\n`),
  inChunks('a bare LF after the size', `${SIZE}\n${STEP}\r\n0\r\n\r\n`),
  inChunks('a bare CR after the size', `${SIZE}\r${STEP}\r\n0\r\n\r\n`),
  inChunks('a bare LF after the data', `${SIZE}\r\n${STEP}\n0\r\n\r\n`),
  inChunks('nothing after the data', `${SIZE}\r\n${STEP}0\r\n\r\n`),
  inChunks('two bytes of something else after the data', `${SIZE}\r\n${STEP}xx0\r\n\r\n`),
  inChunks('an extension with a bare LF', `${SIZE};a\n${STEP}\r\n0\r\n\r\n`),
  inChunks('an extension with a bare CR', `${SIZE};a\rb\r\n${STEP}\r\n0\r\n\r\n`),
  inChunks('an extension with a NUL', `${SIZE};a\u0000\r\n${STEP}\r\n0\r\n\r\n`),
  inChunks(
    '20 kB of an extension',
    `${SIZE};a=${'b'.repeat(20_000)}
${STEP}
0

`,
  ),
  inChunks(
    'a length as a trailer',
    `${SIZE}
${STEP}
0
Content-Length: 5

`,
  ),
  inChunks('a trailer that is no header', `${SIZE}\r\n${STEP}\r\n0\r\nno header\r\n\r\n`),
  inChunks('a trailer with a space before its colon', `${SIZE}\r\n${STEP}\r\n0\r\nA : b\r\n\r\n`),
  inChunks('20 kB of trailers', `${SIZE}\r\n${STEP}\r\n0\r\nA: ${'b'.repeat(20_000)}\r\n\r\n`, 431),
]

export const framing: Entry[] = [...twoFramings, ...lengths, ...chunks]
