import assert from 'node:assert/strict'
import { test } from 'node:test'
import postgres from 'postgres'
import { connect } from '../../src/db/connect.ts'
import { CHANNEL, createHints, parseHint } from '../../src/pod/hints.ts'
import { addPod } from '../sql/arrange.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'

/** Pods call each other when there is work. A call that comes before the work would wake them in vain. */

const { url, sql, database } = await testDatabase()
const one = connect({ url, name: 'one connection', max: 1, pooler: false, deadlineMs: 5000 })
const ears = postgres(url, { max: 2, onnotice: () => {} })
atEnd(async () => {
  await one.close()
  await ears.end({ timeout: 1 })
})
await sql`create table public.work (n int)`
const caller = await addPod(sql, [])
await addPod(sql, [])

test('a call behind an insert is heard when what was inserted can be seen, never before', async () => {
  const { sayBehind } = createHints(database, caller)
  const found: Promise<number>[] = []
  const { unlisten } = await ears.listen(CHANNEL, () => {
    found.push(ears<{ n: number }[]>`select count(*)::int as n from public.work`.then(([row]) => row?.n ?? 0))
  })
  const TIMES = 100
  for (let n = 1; n <= TIMES; n++) {
    await one.run(async (tx) => {
      const written = tx`insert into public.work values (${n})`.execute()
      sayBehind(tx, 'ready', written)
      await written
    })
    // Each call of its own: not gathered with the next one.
    await until('the call to be heard', () => found.length === n)
  }
  for (const [i, seen] of (await Promise.all(found)).entries())
    assert.ok(seen > i, `call ${i + 1} found ${seen} rows`)
  await unlisten()
})

test('while calls rest, the one about a slow insert waits for it', async () => {
  const { say, sayBehind } = createHints(database, caller)
  const found: number[] = []
  const { unlisten } = await ears.listen(CHANNEL, () => {
    void ears<{ n: number }[]>`select count(*)::int as n from public.work where n = -1`.then(([row]) =>
      found.push(row?.n ?? 0),
    )
  })
  say('ready')
  await one.run(async (tx) => {
    const written = tx`insert into public.work select -1 from pg_sleep(0.2)`.execute()
    sayBehind(tx, 'ready', written)
    await written
  })
  await until('a call to find it', () => found.includes(1), 5000)
  await unlisten()
})

test('of a flood of calls few go out, and the last comes after everything', async () => {
  const { say } = createHints(database, caller)
  const heard: (string | undefined)[] = []
  const { unlisten } = await ears.listen(CHANNEL, (payload) => {
    heard.push(parseHint(payload)?.kind)
  })
  for (let n = 0; n < 1000; n++) say('ready')
  say('cancel')
  await until('the last to be heard', () => heard.includes('cancel'))
  assert.ok(heard.length < 20, `${heard.length} calls for 1001`)
  assert.ok(heard.includes('ready'))
  await unlisten()
})
