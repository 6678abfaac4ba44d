import assert from 'node:assert/strict'
import { test } from 'node:test'
import { accepted, openDoor, refusal, said } from './door.ts'

const STEP = { type: 'data_processing', args: { input_file: 'data.csv' } }

test('a body that is not an object is refused, whatever else it is', async () => {
  for (const body of ['null', '[]', '"text"', '7', 'true'])
    assert.match(await refusal('/submit', body), /^400 : must be an object, not /, body)
})

test('broken JSON says where', async () => {
  assert.equal(
    await refusal('/submit', '{"type":"a","args":{}'),
    '400 : line 1, column 22: expected a comma or }',
  )
  assert.equal(await refusal('/submit', ''), '400 : needs a body')
  assert.equal(
    await refusal('/submit', '{"type":"a",\n"args":{"x":tru}}'),
    '400 args.x: line 2, column 13: expected a value',
  )
})

test('what Postgres cannot keep, and what JavaScript would change, never gets in', async () => {
  const args = (text: string) => refusal('/submit', `{"type":"a","args":{"x":${text}}}`)
  assert.match(await args('"a\\u0000b"'), /^400 args\.x: holds NUL/)
  assert.match(await args('"\\ud800"'), /^400 args\.x: holds half a surrogate pair/)
  assert.match(await args('{"\\udc00":1}'), /^400 args\.x: holds half/)
  assert.match(await args('1e400'), /^400 args\.x: is too large/)
  assert.match(await args('9223372036854775807'), /^400 args\.x: would lose digits/)
  assert.match(
    await args('{"__proto__":{"admin":true}}'),
    /^400 args\.x\.__proto__: is a key that is not allowed/,
  )
  assert.match(await args('1,"x":2'), /^400 args\.x: stands twice/)
  assert.match(await args('['.repeat(63) + ']'.repeat(63)), /^400 args\.x[.0]*: lies deeper than 64 levels/)
  assert.deepEqual(
    await accepted(`{"type":"a","args":{"x":${'['.repeat(62)}${']'.repeat(62)}}}`).then(Boolean),
    true,
  )
  assert.match(await refusal('/submit', '{"type":"a\\u0000","args":{}}'), /^400 type: holds NUL/)
})

test('a body that is not UTF-8 is refused instead of mended', async () => {
  const { ask, seen } = openDoor()
  const body = Buffer.concat([
    Buffer.from('{"type":"a","args":{"x":"'),
    Buffer.from([0xff, 0xfe]),
    Buffer.from('"}}'),
  ])
  const response = await ask('POST', '/submit', { headers: { 'content-type': 'application/json' }, body })
  assert.equal(response.status, 400)
  assert.equal((await said(response)).detail, 'The request is not valid UTF-8')
  assert.deepEqual(seen, [])
})

/** A step whose body is exactly so many bytes. */
function filled(size: number): string {
  const frame = '{"type":"a","args":{"x":""}}'
  return frame.replace('""', `"${'x'.repeat(size - frame.length)}"`)
}

test('a megabyte is enough, with and without its length told', async () => {
  const { ask, send, seen } = openDoor()
  const json = { 'content-type': 'application/json' }
  assert.equal((await send('/submit', filled(1_048_576))).status, 201)
  seen.length = 0
  const tooLarge: RequestInit[] = [
    { headers: { ...json, 'content-length': '1048577' }, body: filled(1_048_577) },
    { headers: { ...json, 'content-length': '5' }, body: filled(1_048_577) },
    { headers: json, body: filled(1_048_577) },
    { headers: { ...json, 'transfer-encoding': 'chunked', 'content-length': '5' }, body: filled(1_048_577) },
    { headers: json, body: endless(), duplex: 'half' },
  ]
  for (const init of tooLarge) {
    const response = await ask('POST', '/submit', init)
    assert.equal(response.status, 413)
    assert.equal((await said(response)).error_type, 'validation_error')
  }
  assert.deepEqual(seen, [])
})

test('only JSON in UTF-8 is read', async () => {
  for (const type of [
    'application/json',
    'Application/JSON; charset=UTF-8',
    'application/json;charset="utf-8"',
  ]) {
    const { send } = openDoor()
    assert.equal((await send('/submit', STEP, { 'content-type': type })).status, 201, type)
  }
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/jsonp',
    'application/json; charset=latin1',
    '',
  ]) {
    const { send, seen } = openDoor()
    const response = await send('/submit', STEP, { 'content-type': type })
    assert.equal(response.status, 415, type)
    assert.equal((await said(response)).error_type, 'validation_error')
    assert.deepEqual(seen, [])
  }
  const { send } = openDoor()
  assert.equal((await send('/submit', STEP, { 'content-encoding': 'gzip' })).status, 415)
})

test('a call that asks for no body gets none', async () => {
  const { ask, seen } = openDoor()
  for (const headers of [{ 'content-length': '2' }, { 'transfer-encoding': 'chunked' }]) {
    const response = await ask('GET', '/admin/queue', { headers })
    assert.equal(response.status, 400)
    assert.equal((await said(response)).detail, 'The request takes no body: leave it out of GET')
  }
  assert.equal((await ask('GET', '/admin/queue', { headers: { 'content-length': '0' } })).status, 200)
  assert.equal(seen.length, 1)
})

test('where the seed lets a body be left out it may be left out, or be empty', async () => {
  const { ask, send, seen } = openDoor()
  assert.equal((await ask('POST', '/admin/recovery/run')).status, 200)
  assert.equal((await send('/admin/recovery/run', {})).status, 200)
  assert.equal((await send('/admin/recovery/run', { dry_run: true })).status, 200)
  assert.deepEqual(
    seen.map(({ input }) => input['body']),
    [
      { force: false, dry_run: false, relay: false },
      { force: false, dry_run: false, relay: false },
      { force: false, dry_run: true, relay: false },
    ],
  )
  assert.equal(
    await refusal('/admin/recovery/run', { dry_run: 'yes' }),
    '400 dry_run: must be true or false, not a string',
  )
})

test('a query is read strictly: numbers are numbers, names are known, and each stands once', async () => {
  const { ask, seen } = openDoor()
  const response = await ask('GET', '/steps?status=failed&type=mail&older_than_seconds=3.5&limit=5&tag=a%20b')
  assert.equal(response.status, 200)
  assert.deepEqual(seen[0]?.input['query'], {
    status: 'failed',
    type: 'mail',
    tag: 'a b',
    older_than_seconds: 3.5,
    limit: 5,
  })
  const refused: [string, string][] = [
    ['limit=0', 'limit: must be at least 1'],
    ['limit=1001', 'limit: must be at most 1000'],
    ['limit=', 'limit: must be a number, not a string'],
    ['limit=1e2', 'limit: must be a number, not a string'],
    ['limit=0x10', 'limit: must be a number, not a string'],
    ['limit=%201', 'limit: must be a number, not a string'],
    ['limit=1.5', 'limit: must be an integer, not 1.5'],
    ['limit=NaN', 'limit: must be a number, not a string'],
    ['limit=5&limit=6', 'limit: stands twice in the query'],
    ['limit=99999999999999999999', 'limit: must be a number, not a string'],
    ['status=done', 'status: must be one of pending, claimed, completed, failed, cancelled, skipped'],
    ["type=a'%20OR%201=1", 'type: must be letters, digits'],
    ['tag=%00', 'tag: holds NUL'],
    ['order=priority', 'order: is not a field of this request.'],
    ['__proto__=1', '__proto__: is not a field of this request.'],
    ['constructor=1', 'constructor: is not a field of this request.'],
    ['older_than_seconds=-1', 'older_than_seconds: must be at least 0'],
  ]
  seen.length = 0
  for (const [query, expected] of refused) {
    const answer = await said(await ask('GET', `/steps?${query}`))
    const first = answer.issues?.[0]
    assert.ok(`${first?.at}: ${first?.message}`.startsWith(expected), `${query}: ${JSON.stringify(answer)}`)
  }
  assert.equal((await ask('GET', '/admin/queue?x=1')).status, 400)
  assert.deepEqual(seen, [])
})

test('an id is text of up to 200 characters; longer ones, and NUL, are not looked for', async () => {
  const { ask, seen } = openDoor()
  assert.equal((await ask('GET', `/status/${'x'.repeat(200)}`)).status, 200)
  assert.equal((await ask('GET', '/status/a%2Fb%20c')).status, 200)
  assert.deepEqual(seen[1]?.input['params'], { step_id: 'a/b c' })
  seen.length = 0
  for (const id of ['x'.repeat(201), 'x'.repeat(10_240), 'a%00b']) {
    const response = await ask('GET', `/status/${id}`)
    assert.equal(response.status, 400, id.slice(0, 20))
    const body = await response.text()
    assert.ok(body.length < 1500, 'and they are not repeated in full')
  }
  assert.deepEqual(seen, [])
})

test('a bulk change names what it means; a pause names a type or a key', async () => {
  assert.equal(await refusal('/steps/cancel', { filter: {} }), '400 filter: must name at least one field')
  assert.equal(await refusal('/steps/cancel', {}), '400 filter: is missing')
  assert.equal(
    await refusal('/steps/retry', { filter: { type: 'a' }, limit: 10_001 }),
    '400 limit: must be at most 10000',
  )
  assert.equal(await refusal('/admin/pause', {}), '400 : must name a type, a key, or both; or executions')
  assert.equal(
    await refusal('/admin/resume', { reason: 'x' }),
    '400 : must name a type, a key, or both; or executions',
  )
  assert.equal(
    await refusal('/admin/resume', { type: 'a', until: '2030-01-01T00:00:00Z' }),
    '400 until: is not a field of this request.',
  )
})

test('an idempotency key may come as a field or as a header, but not as two', async () => {
  const { send, seen } = openDoor()
  await send('/submit', STEP, { 'idempotency-key': 'abc 1' })
  await send('/submit', { ...STEP, idempotency_key: 'abc 1' })
  await send('/submit', { ...STEP, idempotency_key: 'abc 1' }, { 'idempotency-key': 'abc 1' })
  const keys = seen
    .map(({ input }) => input['body'])
    .map((body) => JSON.stringify(body).includes('"idempotency_key":"abc 1"'))
  assert.deepEqual(keys, [true, true, true])
  assert.equal(
    await refusal('/submit', { ...STEP, idempotency_key: 'a' }, { 'idempotency-key': 'b' }),
    '400 idempotency_key: differs from the header Idempotency-Key',
  )
  for (const key of ['', 'k'.repeat(256), 'caf\u00e9'])
    assert.match(
      await refusal('/submit', STEP, { 'idempotency-key': key }),
      /^400 idempotency_key: in the header/,
    )
})

/** Chunks without an end: whoever reads on is never done. */
const endless = () =>
  new ReadableStream({
    pull: (controller) => controller.enqueue(new Uint8Array(65_536).fill(0x20)),
  })
