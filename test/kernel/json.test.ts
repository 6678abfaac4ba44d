import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { FleetError } from '../../src/errors.ts'
import { JSON_DEPTH_MAX, JSON_KEYS_MAX, parseJson } from '../../src/kernel/json.ts'

/** What is wrong with a text, as 'place: message'; '' where nothing is. */
function complaint(text: string): string {
  try {
    parseJson(text)
    return ''
  } catch (error) {
    assert.ok(error instanceof FleetError)
    assert.equal(error.code, 'invalid_input')
    const issue = error.issues?.[0]
    assert.ok(issue)
    return `${issue.at}: ${issue.message}`
  }
}

test('what JSON.parse takes and a database can keep comes out the same', () => {
  for (const text of [
    '0',
    ' {"a" : [1, -2.5e3, "x", true, false, null, {}], "b": {}} \n',
    '"\\u00e9 \\ud83d\\ude00 😀 \\n \\/ \\\\ \\""',
    '{"constructor": 1, "toString": 2, "": 3}',
    '[]',
    '9007199254740992',
    '10000000000000000000000',
    '0.1234567890123456789',
    '-0',
  ])
    assert.deepEqual(parseJson(text), JSON.parse(text), text)
})

test('any JSON value survives the way through text', () => {
  const value = fc.jsonValue({ maxDepth: 6, stringUnit: 'grapheme' }).filter((v) => !hasOddities(v))
  fc.assert(
    fc.property(value, (v) => assert.deepEqual(parseJson(JSON.stringify(v)), JSON.parse(JSON.stringify(v)))),
  )
})

const TOKENS = String.raw`{ } [ ] , : " 1 - 0 . e + \ ' "a" "b" true null nul 01 1.5 \n \u0041 \x "\" //`
  .split(' ')
  .concat(' ', '\n', '\t', '\u0001', '\ufeff', '\u00a0')

test('what is refused as broken is what JSON.parse refuses, and nothing else', () => {
  const token = fc.constantFrom(...TOKENS)
  const text = fc.oneof(
    fc.array(token, { maxLength: 12 }).map((tokens) => tokens.join('')),
    fc.tuple(fc.json(), fc.nat(), token).map(([json, at, piece]) => {
      const place = at % (json.length + 1)
      return json.slice(0, place) + piece + json.slice(place)
    }),
  )
  fc.assert(
    fc.property(text, (sent) => {
      let broken = false
      try {
        JSON.parse(sent)
      } catch {
        broken = true
      }
      const said = complaint(sent)
      const takenForBroken = /line \d+, column \d+: /.test(said)
      // A text may be broken further on than the place where something in it is refused.
      if (said === '' || takenForBroken)
        assert.equal(takenForBroken, broken, `${JSON.stringify(sent)} -> ${said}`)
    }),
    { numRuns: 5000 },
  )
})

test('broken JSON names the line, the column and what was expected', () => {
  assert.equal(complaint(''), ': line 1, column 1: there is nothing here')
  assert.equal(complaint('  \n '), ': line 2, column 2: there is nothing here')
  assert.equal(complaint('{"a": 1,\n "b" 2}'), 'b: line 2, column 6: expected a colon')
  assert.equal(complaint('{"a": [1, }'), 'a.1: line 1, column 11: expected a value')
  assert.equal(complaint('{"a": 1 "b": 2}'), ': line 1, column 9: expected a comma or }')
  assert.equal(complaint('[1 2]'), ': line 1, column 4: expected a comma or ]')
  assert.equal(complaint('{a: 1}'), ': line 1, column 2: expected a key in double quotes')
  assert.equal(complaint('{"a": "x'), 'a: line 1, column 9: the string does not end')
  assert.equal(complaint('"a\tb"'), ': line 1, column 3: a control character must be escaped')
  assert.equal(complaint('"\\u12g4"'), ': line 1, column 6: expected four hexadecimal digits after \\u')
  assert.equal(complaint('"\\q"'), ': line 1, column 2: this is not an escape of JSON')
  assert.equal(complaint('{} x'), ': line 1, column 4: nothing may follow the value')
  assert.equal(complaint('[1.]'), ': line 1, column 3: expected a comma or ]')
  for (const word of ['NaN', 'Infinity', '-Infinity', 'undefined', "'a'", '+1', '.5', '0x10'])
    assert.match(complaint(word), /expected a value|nothing may follow/, word)
})

test('NUL is refused wherever it stands, and named by its path', () => {
  assert.equal(
    complaint('{"args":{"items":[1,{"name":"a\\u0000b"}]}}'),
    'args.items.1.name: holds NUL, which Postgres cannot store',
  )
  assert.match(complaint('{"a\\u0000":1}'), /^: holds NUL/)
  assert.match(complaint('{"a":"\u0000"}'), /^a: holds NUL/)
  assert.equal(complaint('"\\\\u0000"'), '', 'a backslash before u0000 is text')
})

test('half a surrogate pair is refused, raw or escaped, in keys and values; whole pairs pass', () => {
  const halves = ['\ud800', '\udc00', '\udc00\ud800', '\ud800\ud800', 'x\udfffy', '😀\ud83d']
  for (const half of halves) {
    const escaped = Array.from(
      { length: half.length },
      (_, i) => `\\u${half.charCodeAt(i).toString(16).padStart(4, '0')}`,
    ).join('')
    for (const spelled of [half, escaped]) {
      assert.match(
        complaint(`{"a":"${spelled}"}`),
        /^a: holds half a surrogate pair/,
        JSON.stringify(spelled),
      )
      assert.match(complaint(`{"${spelled}":1}`), /^: holds half a surrogate pair/)
    }
  }
  for (const whole of ['😀', '\\ud83d\\ude00', '\ud83d\\ude00', '\\uD83D\ude00'])
    assert.deepEqual(parseJson(`{"a":"${whole}","${whole}":1}`), { a: '😀', '😀': 1 })
})

test('a string passes if and only if Postgres could keep it', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.array(fc.nat(0xffff)), (text, units) => {
      const sent = text + String.fromCharCode(...units)
      const kept = sent.isWellFormed() && !sent.includes('\0')
      assert.equal(complaint(JSON.stringify(sent)) === '', kept)
      if (kept) assert.equal(parseJson(JSON.stringify(sent)), sent)
    }),
  )
})

test('a number that a double cannot hold is refused instead of rounded', () => {
  assert.equal(
    complaint('{"id":9007199254740993}'),
    'id: would lose digits (9007199254740992); send it as a string',
  )
  for (const lossy of [
    '-9007199254740993',
    '9223372036854775807',
    '9223372036854775808',
    '12345678901234567890',
  ])
    assert.match(complaint(lossy), /would lose digits/, lossy)
  for (const large of ['1e400', '-1e400', '1E+309', '9'.repeat(400)])
    assert.match(complaint(large), /too large/, large)
  assert.match(complaint('1e-400'), /too small/)
  assert.equal(complaint('0e-400'), '')
  const shortEnough = fc.bigInt({ min: -(10n ** 20n), max: 10n ** 20n })
  fc.assert(
    fc.property(shortEnough, (n) =>
      assert.equal(complaint(String(n)) === '', String(Number(n)) === String(n)),
    ),
  )
})

test('a key may stand once in an object, however it is spelled', () => {
  assert.equal(complaint('{"a":1,"b":2,"a":3}'), 'a: stands twice in one object')
  assert.equal(complaint('{"o":{"x":1,"\\u0078":2}}'), 'o.x: stands twice in one object')
  assert.equal(complaint('{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}'), '')
  const many = Array.from({ length: 50 }, (_, i) => `"k${i}":{"k0":${i}}`)
  assert.equal(complaint(`{${many.join()}}`), '')
  for (const i of [0, 11, 12, 13, 49])
    assert.equal(complaint(`{${many.join()},"k${i}":0}`), `k${i}: stands twice in one object`)
})

test('__proto__ is no key, however it is spelled', () => {
  assert.equal(
    complaint('{"args":{"__proto__":{"admin":true}}}'),
    'args.__proto__: is a key that is not allowed',
  )
  assert.match(complaint('{"\\u005f_proto__":1}'), /not allowed/)
  assert.equal(complaint('{"a":"__proto__","proto":1}'), '')
})

const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels)

test('64 levels are enough', () => {
  assert.equal(complaint(nested(JSON_DEPTH_MAX)), '')
  assert.match(complaint(nested(JSON_DEPTH_MAX + 1)), /deeper than 64 levels/)
  assert.match(complaint('{"a":'.repeat(65) + '1' + '}'.repeat(65)), /deeper than 64 levels/)
  assert.match(complaint('['.repeat(500_000)), /deeper than 64 levels/, 'and nothing overflows')
  assert.equal(complaint(`[${nested(10)},${nested(10)}]`), '', 'brackets beside each other are no depth')
})

const wide = (keys: number) => `{${Array.from({ length: keys }, (_, i) => `"k${i}":0`).join(',')}}`

test('10,000 keys are enough for one object', () => {
  assert.equal(complaint(wide(JSON_KEYS_MAX)), '')
  assert.equal(complaint(wide(JSON_KEYS_MAX + 1)), 'k10000: is a key too many: an object has 10000 at most')
  assert.match(complaint(`{"a":[${wide(JSON_KEYS_MAX + 1)}]}`), /^a\.0\.k10000: is a key too many/)
  assert.equal(complaint(`[${wide(6000)},${wide(6000)}]`), '', 'each object has its own')
})

test('a place is told in few words, even where a key is as long as the body', () => {
  assert.ok(complaint(`{"${'k'.repeat(100_000)}":tru}`).length < 200)
})

/** What parseJson refuses and JSON.stringify can write. */
const hasOddities = (value: unknown): boolean =>
  typeof value === 'string'
    ? value.includes('\0') || !value.isWellFormed()
    : typeof value === 'object' &&
      value !== null &&
      Object.entries(value).some(([key, v]) => key === '__proto__' || hasOddities(key) || hasOddities(v))
