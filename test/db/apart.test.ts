import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { connectApart } from '../../src/db/apart.ts'
import { connect, type Sql } from '../../src/db/connect.ts'
import { DiedSilently } from '../../src/db/watch-answers.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { startProxy } from '../support/proxy.ts'

/** Transactions of handlers, which may take an hour, on connections that a network has forgotten. */

const db = await testDatabase()

let arranged = 0

async function arrange({ named = true }: { named?: boolean } = {}) {
  const mine = ++arranged
  const proxy = await startProxy(db.url)
  // Past the network that forgets: a pod asks on a connection that works.
  const asked = connect({ url: db.url, name: 'asks', max: 1, pooler: true, deadlineMs: 5000 })
  const apart = connectApart({
    url: proxy.url,
    pooler: true,
    // As long as a step may take: who waits for that has not noticed.
    deadlineMs: 3_600_000,
    nameOf: (n) => `apart ${mine} ${n}`,
    asked,
    askedName: named ? 'asks' : 'a name that no pooler has handed on',
  })
  atEnd(async () => {
    await proxy.close()
    await Promise.all([apart.close(), asked.close()])
  })
  return { proxy, apart }
}

const one = (tx: Sql) => tx`select 1 as one`

/** Longer than the patience of who watches it, and under a name that is not ours. */
async function sleepNameless(tx: Sql) {
  await tx`set local application_name = 'somebody'`
  return tx`select 1 as one, pg_sleep(11)`
}

// Each waits for the patience of whoever watches: together they take no longer than one.
describe('a transaction of a handler', { concurrency: true, timeout: 45_000 }, () => {
  test('behind a pooler too, a transaction that has not begun is begun anew where its connection was forgotten', async () => {
    const { proxy, apart } = await arrange()
    // Several that rest: each of them is dead after this.
    await Promise.all(Array.from({ length: 3 }, () => apart.begin(one)))
    proxy.blackhole()
    const begun = Promise.all(Array.from({ length: 3 }, () => apart.begin(one)))
    proxy.pass()
    for (const rows of await begun) assert.equal(rows[0]?.['one'], 1)
  })

  test('one that had begun is given up, and its caller learns of it', async () => {
    const { proxy, apart } = await arrange()
    await assert.rejects(
      apart.begin(async (tx) => {
        await one(tx)
        proxy.blackhole()
        const lost = one(tx)
        lost.catch(() => {})
        await new Promise((resolve) => setTimeout(resolve, 50))
        proxy.pass()
        return lost
      }),
      DiedSilently,
    )
  })

  test('where a pooler hands no names on, one that has begun is waited for: nobody can know', async () => {
    const { apart } = await arrange({ named: false })
    const rows = await apart.begin(sleepNameless)
    assert.equal(rows[0]?.['one'], 1)
  })

  test('and where it does, one whose name is not seen is given up', async () => {
    const { apart } = await arrange()
    await assert.rejects(apart.begin(sleepNameless), DiedSilently)
  })
})
