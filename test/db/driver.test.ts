import assert from 'node:assert/strict'
import { test } from 'node:test'
import { awaitDatabase, connect, repeatOnConflict, type Database, type Sql } from '../../src/db/connect.ts'
import { inOurWords, isUnavailable, sqlState } from '../../src/db/failure.ts'
import { listen } from '../../src/db/listen.ts'
import { FleetError } from '../../src/errors.ts'
import { atEnd } from '../support/cleanup.ts'
import { testDatabase } from '../support/database.ts'
import { EMPTY_ROW, READY_FOR_QUERY, saysCommitted, startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'

/**
 * What we ask of the driver, whichever it is: the acceptance suite D1 to D8, and what was found beside it. An exception
 * or a rejection that nobody catches fails this file: that is half of what is tested.
 */

const db = await testDatabase()
await db.sql`create table public.notes (id int primary key, word text)`

function open(url: string, options: Partial<Parameters<typeof connect>[0]> = {}): Database {
  const database = connect({ url, name: 'driver test', max: 3, pooler: false, deadlineMs: 1000, ...options })
  atEnd(() => database.close())
  return database
}

const one = async (sql: Sql) => {
  const [row] = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`
  return row?.pid ?? 0
}
const kill = (pid: number) => db.sql`select pg_terminate_backend(${pid})`
const unavailable = (error: unknown) => isUnavailable(error)
const rejection = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  )
const runsIn = (pid: number) =>
  until(
    'the query to run',
    async () =>
      (
        await db.sql`select 1 from pg_stat_activity where pid = ${pid} and state = 'active' and query like '%sleep%'`
      ).length,
  )

/** So many failures at most, each of a kind that says "not now". */
async function afterErrors<T>(most: number, work: () => Promise<T>): Promise<T> {
  for (let errors = 0; ; errors++) {
    try {
      return await work()
    } catch (error) {
      if (errors >= most || !unavailable(error)) throw error
    }
  }
}

const seconds = async (work: Promise<unknown>) => {
  const begun = performance.now()
  await work.catch(() => {})
  return (performance.now() - begun) / 1000
}

test('D1: a query on a half-open connection ends by its deadline, and the next one works when the network does', async () => {
  for (const way of ['both', 'to server', 'to client'] as const) {
    const proxy = await startProxy(db.url)
    // One connection: what is dead must be given up, there is no other to turn to.
    const database = open(proxy.url, { max: 1 })
    await database.run(one)
    proxy.blackhole(way)
    const asked = database.run(one)
    assert.ok((await seconds(asked)) < 1.5, `${way}: the query outlived its deadline`)
    await assert.rejects(asked, unavailable)
    proxy.pass()
    assert.ok(await database.run(one))
    assert.ok(await database.begin(one))
  }
})

test('D1: so does a connection that is cut while it is being made, at whatever word of the server', async () => {
  for (let word = 1; word <= 8; word++) {
    const proxy = await startProxy(db.url)
    const database = open(proxy.url, { max: 1 })
    let heard = 0
    void proxy.swallowAnswer(() => ++heard === word)
    const error = await rejection(database.run(one))
    assert.ok(error === undefined || unavailable(error), `word ${word}: ${String(error)}`)
    assert.ok(await afterErrors(1, () => database.run(one)))
  }
})

test('D2: a backend that is killed, idle or in a query, costs an error or two, and the pool goes on', async () => {
  const database = open(db.url, { max: 1 })
  const idle = await database.run(one)
  await kill(idle)
  assert.notEqual(await afterErrors(2, () => database.run(one)), idle)

  const busy = await database.run(one)
  const asked = rejection(database.run((sql) => sql`select pg_sleep(30)`))
  await runsIn(busy)
  await kill(busy)
  assert.ok(unavailable(await asked))
  // The driver hands the last words of the dead backend to the first query of the next one, too.
  assert.notEqual(await afterErrors(1, () => database.run(one)), busy)
})

test('D2: a backend that is killed in a transaction ends that transaction, and nothing else', async () => {
  const database = open(db.url, { max: 1 })
  const idle = database.begin(async (tx) => {
    await kill(await one(tx))
    const lost = () => rejection(tx`select 1`).then((error) => error !== undefined)
    await until('the connection to be lost', lost)
    // A handler that shrugs off the failure of its query has not committed for all that.
    return 'went on'
  })
  await assert.rejects(idle, unavailable)
  assert.ok(await afterErrors(1, () => database.run(one)))

  const busy = database.begin(async (tx) => {
    const pid = await one(tx)
    const asked = rejection(tx`select pg_sleep(30)`)
    await runsIn(pid)
    await kill(pid)
    throw await asked
  })
  await assert.rejects(busy, unavailable)
  assert.ok(await afterErrors(1, () => database.begin(one)))
})

test('D2: a listener whose backend is killed listens again, and says when, so that what was missed is looked for', async () => {
  const heard: string[] = []
  let connects = 0
  const doorbell = listen({
    url: db.url,
    name: 'driver test listener',
    channel: 'driver_test',
    onMessage: (payload) => heard.push(payload),
    onConnect: () => connects++,
    onError: () => {},
  })
  await doorbell.start()
  atEnd(() => doorbell.stop())
  await until('the listener to listen', () => connects === 1)
  for (let time = 1; time <= 3; time++) {
    await db.sql`
      select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'driver test listener'`
    await until('the listener to listen again', () => connects === time + 1)
    await db.sql`select pg_notify('driver_test', ${`after kill ${time}`})`
    await until('the bell to be heard', () => heard.includes(`after kill ${time}`))
  }
})

test('D3: cut in the commit, the caller learns that it cannot know; what was committed is there', async () => {
  const proxy = await startProxy(db.url)
  const database = open(proxy.url)
  const swallowed = proxy.swallowAnswer(saysCommitted)
  const written = database.begin((tx) => tx`insert into public.notes values (3, 'kept')`)
  await assert.rejects(written, unavailable)
  await swallowed
  const [row] = await database.run(
    (sql) => sql<{ word: string }[]>`select word from public.notes where id = 3`,
  )
  assert.equal(row?.word, 'kept')
})

test('D4: a database that is absent at the start is waited for, up to a limit', async () => {
  const proxy = await startProxy(db.url)
  await proxy.refuse()
  let waits = 0
  const patient = awaitDatabase(open(proxy.url), 10_000, () => {
    waits++
    if (waits === 2) proxy.pass()
  })
  await patient
  assert.ok(waits >= 2)

  await proxy.refuse()
  await assert.rejects(
    awaitDatabase(open(proxy.url), 700, () => {}),
    unavailable,
  )
})

test('D5: close returns after a lost connection, whatever was under way', async () => {
  const proxy = await startProxy(db.url)
  const database = open(proxy.url, { deadlineMs: 20_000 })
  const pids: number[] = []
  const sleep = async (sql: Sql) => {
    pids.push(await one(sql))
    await sql`select pg_sleep(30)`
  }
  const ends = Promise.all([rejection(database.begin(sleep)), rejection(database.begin(sleep))])
  await until('both to be under way', () => pids.length === 2)
  for (const pid of pids) await runsIn(pid)
  proxy.blackhole()
  assert.ok((await seconds(database.close())) < 4)
  assert.ok((await ends).every(unavailable))

  const reset = open(proxy.url)
  proxy.pass()
  await reset.run(one)
  proxy.reset()
  assert.ok((await seconds(reset.close())) < 4)
})

test('D6: failures of Postgres fall into classes: not now, try the transaction again, and never', async () => {
  const database = open(db.url, { deadlineMs: 5000 })
  const failureOf = async (work: Promise<unknown>) => {
    const error = await rejection(work)
    const told = inOurWords(error)
    return {
      state: sqlState(error),
      now: !isUnavailable(error),
      code: told instanceof FleetError ? told.code : undefined,
    }
  }
  const refused = (state: string) => ({ state, now: true, code: 'database_error' })
  // What a server says that has no room on its disk, to whoever connects: no test can fill that of everybody.
  const noRoom = Object.assign(new Error('could not write init file'), { severity: 'FATAL', code: 'XX000' })
  assert.equal(isUnavailable(noRoom), true)
  assert.equal(isUnavailable(Object.assign(noRoom, { severity: 'ERROR' })), false)
  const away = (state: string) => ({ state, now: false, code: 'database_unavailable' })

  assert.deepEqual(
    await failureOf(database.run((sql) => sql`select ${'"\\u0000"'}::text::jsonb`)),
    refused('22P05'),
  )
  assert.deepEqual(
    await failureOf(database.run((sql) => sql`select 'no number'::text::int`)),
    refused('22P02'),
  )
  assert.deepEqual(
    await failureOf(
      database.begin(async (tx) => {
        await tx`set local statement_timeout = 50`
        await tx`select pg_sleep(5)`
      }),
    ),
    away('57014'),
  )
  assert.deepEqual(
    await failureOf(
      database.begin(async (tx) => {
        await tx`set transaction read only`
        await tx`insert into public.notes values (6, 'no')`
      }),
    ),
    away('25006'),
  )
  assert.deepEqual(
    await failureOf(
      db.sql.begin(async (held) => {
        await held`lock table public.notes`
        await database.begin(async (tx) => {
          await tx`set local lock_timeout = 50`
          await tx`select 1 from public.notes`
        })
      }),
    ),
    away('55P03'),
  )

  // The place is taken by a connection of its own; a superuser would not be held back.
  await db.sql`create role driver_test_guest login password 'guest' connection limit 1`
  atEnd(() => db.sql`drop role driver_test_guest`)
  const asGuest = new URL(db.url)
  asGuest.username = 'driver_test_guest'
  asGuest.password = 'guest'
  const first = open(asGuest.href, { max: 1 })
  await first.run(one)
  assert.deepEqual(await failureOf(open(asGuest.href, { max: 1 }).run(one)), away('53300'))
  await first.close()
  assert.deepEqual(await failureOf(open(asGuest.href.replace('guest@', 'wrong@')).run(one)), refused('28P01'))
})

test('D6: of two transactions that deadlock, or cannot be put in a row, the loser is repeated and both are done', async () => {
  const database = open(db.url, { deadlineMs: 10_000 })
  await db.sql`insert into public.notes values (61, ''), (62, '')`
  let attempts = 0
  const meeting = meetingOf(2)
  const crosswise = (first: number, second: number) =>
    repeatOnConflict(() =>
      database.begin(async (tx) => {
        attempts++
        await tx`set local deadlock_timeout = 50`
        await tx`update public.notes set word = word || 'a' where id = ${first}`
        await meeting()
        await tx`update public.notes set word = word || 'b' where id = ${second}`
      }),
    )
  await Promise.all([crosswise(61, 62), crosswise(62, 61)])
  assert.ok(attempts >= 3)
  const words = await db.sql<{ word: string }[]>`select word from public.notes where id in (61, 62)`
  assert.ok(
    words.every(({ word }) => word.length === 2),
    'one of them was done twice, or not',
  )

  attempts = 0
  const again = meetingOf(2)
  const serializable = (mine: number) =>
    repeatOnConflict(() =>
      database.begin(async (tx) => {
        attempts++
        await tx`set transaction isolation level serializable`
        await tx`select count(*) from public.notes`
        await again()
        await tx`insert into public.notes values (${mine}, 'serial')`
      }),
    )
  await Promise.all([serializable(63), serializable(64)])
  assert.ok(attempts >= 3)
  assert.equal((await db.sql`select 1 from public.notes where word = 'serial'`).length, 2)
})

test('D7: behind a pooler no statement is prepared, and no setting travels in the start-up message', async () => {
  const database = open(db.url, { max: 1, pooler: true })
  for (let time = 0; time < 3; time++) await database.run((sql) => sql`select ${time}::int, ${['a']}::text[]`)
  const [seen] = await database.run(
    (sql) => sql<{ prepared: number; timeout: string }[]>`
      select (select count(*)::int from pg_prepared_statements) as prepared, current_setting('statement_timeout') as timeout`,
  )
  assert.deepEqual(seen, { prepared: 0, timeout: '0' })
})

test('D8: ten thousand callers of a database that is gone are told so by the deadline, all but a few at once', async () => {
  const proxy = await startProxy(db.url)
  const database = open(proxy.url, { max: 3 })
  await database.run(one)
  proxy.blackhole()
  const begun = performance.now()
  const ends = await Promise.all(Array.from({ length: 10_000 }, () => rejection(database.run(one))))
  assert.ok(performance.now() - begun < 20_000)
  assert.ok(ends.every(unavailable))
  assert.equal(ends.filter((error) => /Too many callers/.test(String(error))).length, 10_000 - 3 * 200)
  proxy.pass()
  assert.ok(await database.run(one))
})

test('while connections break all the time, every answer goes to its own question, and no question waits for ever', async () => {
  const proxy = await startProxy(db.url)
  const database = open(proxy.url, { deadlineMs: 2000 })
  const end = performance.now() + 3000
  let answered = 0
  let question = 0
  let longestMs = 0
  async function ask() {
    while (performance.now() < end) {
      const mine = ++question
      const begun = performance.now()
      try {
        const [row] = await (mine % 3 === 0
          ? database.begin(async (tx) => {
              await tx`select 'something else'`
              return tx<{ answer: number }[]>`select ${mine}::int as answer`
            })
          : database.run((sql) => sql<{ answer: number }[]>`select ${mine}::int as answer`))
        assert.equal(row?.answer, mine)
        answered++
      } catch (error) {
        if (!isUnavailable(error)) throw error
      }
      longestMs = Math.max(longestMs, performance.now() - begun)
    }
  }
  const nemesis = setInterval(() => {
    const which = () => Math.random() < 0.5
    if (Math.random() < 0.5) proxy.reset(which)
    else proxy.cut(which)
  }, 60)
  await Promise.all(Array.from({ length: 20 }, ask))
  clearInterval(nemesis)
  assert.ok(answered > 100, `only ${answered} of ${question} were answered`)
  assert.ok(longestMs < 10_000, `one waited ${longestMs} ms`)
})

test('a transaction that is over refuses: what is sent through it can neither run unprotected nor in another one', async () => {
  const database = open(db.url, { max: 1 })
  const over = (error: unknown) => error instanceof FleetError && /is over/.test(error.message)
  let kept: Sql | undefined
  let late: Promise<unknown> | undefined
  await database.begin(async (tx) => {
    kept = tx
    // Written early and awaited late: nothing is sent before somebody awaits it.
    const query = tx`insert into public.notes values (71, 'late')`
    late = Promise.resolve().then(async () => {
      await until('the end of the transaction', async () => (await database.run(one)) > 0)
      await query
    })
    return one(tx)
  })
  const stale = kept
  assert.ok(stale)
  await assert.rejects(async () => stale`insert into public.notes values (72, 'stale')`, over)
  await assert.rejects(late ?? Promise.resolve(), over)

  await database
    .begin(async (tx) => {
      kept = tx
      throw new Error('undone')
    })
    .catch(() => {})
  const undone = kept
  assert.ok(undone)
  await database.begin(async (tx) => {
    await tx`insert into public.notes values (73, 'mine')`
    await assert.rejects(async () => undone`rollback`, over)
  })
  const rows = await db.sql<{ id: number }[]>`select id from public.notes where id between 71 and 79`
  assert.deepEqual(
    rows.map(({ id }) => id),
    [73],
  )
})

test('a transaction that lost its connection does not end the one that has that connection now', async () => {
  const database = open(db.url, { max: 1 })
  let goOn: () => void = () => {}
  const gate = new Promise<void>((resolve) => (goOn = resolve))
  const lost = database.begin(async (tx) => {
    await kill(await one(tx))
    await gate
    throw new Error('wants to roll back')
  })
  await assert.rejects(lost, unavailable)
  await database
    .begin(async (tx) => {
      await tx`insert into public.notes values (81, 'mine')`
      goOn()
      // Whatever the lost one sends would go out before the answer to this.
      await tx`select pg_sleep(0.05)`
      await tx`insert into public.notes values (82, 'mine too')`
      const [row] = await tx<
        { n: number }[]
      >`select count(*)::int as n from public.notes where id in (81, 82)`
      assert.equal(row?.n, 2)
      throw new Error('undo both')
    })
    .catch((error: unknown) => assert.match(String(error), /undo both/))
  assert.equal((await db.sql`select 1 from public.notes where id in (81, 82)`).length, 0)
})

test('our transactions see what was committed since they began, whatever isolation the database has as its default', async () => {
  const [name] = await db.sql<{ name: string }[]>`select current_database() as name`
  const isolation = (sql: Sql) =>
    sql<{ level: string }[]>`select current_setting('transaction_isolation') as level`.then(
      ([row]) => row?.level,
    )
  await db.sql.unsafe(`alter database ${name?.name} set default_transaction_isolation = 'repeatable read'`)
  for (const pooler of [false, true]) {
    const database = open(db.url, { pooler })
    assert.equal(await database.begin(isolation), 'read committed')
    if (!pooler) assert.equal(await database.run(isolation), 'read committed')
  }
  const theirs = open(db.url, { statements: 'theirs' })
  assert.equal(await theirs.begin(isolation), 'repeatable read')
  await db.sql.unsafe(`alter database ${name?.name} reset default_transaction_isolation`)
})

test('connections to a server that can only read are given up: behind the same address there is one that can write', async () => {
  const [name] = await db.sql<{ name: string }[]>`select current_database() as name`
  const write = (sql: Sql) => sql`insert into public.notes values (91, 'written')`
  await db.sql.unsafe(`alter database ${name?.name} set default_transaction_read_only = on`)
  const database = open(db.url, { max: 1 })
  await assert.rejects(database.run(write), unavailable)
  // A session keeps the default that it began with; this stands for a reader that stays one.
  await db.sql.unsafe(`alter database ${name?.name} reset default_transaction_read_only`)
  await afterErrors(1, () => database.run(write))
  assert.equal((await db.sql`select 1 from public.notes where id = 91`).length, 1)
})

test('arrays are read and written as Postgres means them, without asking the server what they are', async () => {
  const database = open(db.url)
  const words = [
    'plain',
    '',
    ' a b ',
    'quo"te',
    'back\\slash',
    '{brace}',
    'com,ma',
    'NULL',
    'null',
    'ümläut',
    null,
  ]
  const moment = new Date('2026-11-20T13:14:15.678Z')
  const doc = { a: 'x"y\\z' }
  const [row] = await database.run(
    (sql) => sql<Record<string, unknown>[]>`
      select ${words}::text[] as words, ${['9007199254740993', null]}::bigint[] as big, ${[1, -2, null]}::int[] as numbers,
        ${[1.5, null]}::float8[] as floats, array[true, false] as flags,
        array[${moment.toISOString()}::timestamptz] as moments, array[${JSON.stringify(doc)}::text::jsonb] as docs,
        array['\\x00ff'::bytea] as bytes, ${[]}::text[] as nothing, array[[1, 2], [3, 4]] as square,
        '[0:1]={7,8}'::int[] as bounds, cardinality(${words}::text[]) as length`,
  )
  assert.deepEqual(row, {
    words,
    big: ['9007199254740993', null],
    numbers: [1, -2, null],
    floats: [1.5, null],
    flags: [true, false],
    moments: [moment],
    docs: [doc],
    bytes: [Buffer.from([0, 255])],
    nothing: [],
    square: [
      [1, 2],
      [3, 4],
    ],
    bounds: [7, 8],
    length: words.length,
  })
})

/** The first time that so many have come, all go on; whoever comes later is not held. */
function meetingOf(count: number): () => Promise<void> {
  let come = 0
  let open: () => void = () => {}
  const all = new Promise<void>((resolve) => (open = resolve))
  return () => {
    if (++come === count) open()
    return all
  }
}

test('an answer that breaks off after some rows leaves no holes in front of the next one', async () => {
  const database = open(db.url, { max: 1 })
  const numbers = (sql: Sql) => sql<{ n: number }[]>`select n from generate_series(1, 3) as n`
  const breaksOff = (sql: Sql) => sql`select 10 / (5 - n) as n from generate_series(1, 10) as n`
  const told = async (ask: () => Promise<{ n: number }[]>) => [...(await ask())].map((row) => row?.n)

  await assert.rejects(database.run(breaksOff), /division by zero/)
  assert.deepEqual(await told(() => database.run(numbers)), [1, 2, 3])
  await assert.rejects(database.run(breaksOff), /division by zero/)
  assert.deepEqual(await told(() => database.begin(numbers)), [1, 2, 3])
})

test('a server that is ready without an answer has not answered: nobody is told that there is nothing', async () => {
  const proxy = await startProxy(db.url)
  for (const pooler of [false, true]) {
    const database = open(proxy.url, { max: 1, pooler })
    const ask = (n: number) =>
      database.run(async (sql) => [...(await sql<{ n: number }[]>`select ${n}::int as n`)])
    assert.deepEqual(await ask(1), [{ n: 1 }])
    proxy.sayFirst(READY_FOR_QUERY)
    await assert.rejects(ask(2), unavailable)
    assert.deepEqual(await ask(3), [{ n: 3 }])
    const inTransaction = database.begin(async (tx) => {
      await tx`select 4 as n`
      proxy.sayFirst(READY_FOR_QUERY)
      return [...(await tx`select 5 as n`)]
    })
    await assert.rejects(inTransaction, unavailable)
    assert.deepEqual(await ask(6), [{ n: 6 }])
    await database.close()
  }
  await proxy.close()
})

test('a connection that is out of step gives nobody the answer of another', async () => {
  const proxy = await startProxy(db.url)
  for (const pooler of [false, true]) {
    const database = open(proxy.url, { max: 1, pooler })
    const one = (n: number) => database.run(async (sql) => [...(await sql`select ${n}::int as n`)])
    const two = (n: number) => database.run(async (sql) => [...(await sql`select ${n}::int as n, 0 as m`)])
    const mayBe = (told: PromiseSettledResult<unknown>, answer: unknown) => {
      if (told.status === 'fulfilled') assert.deepEqual(told.value, [answer])
      else assert.ok(unavailable(told.reason), String(told.reason))
    }
    for (let round = 0; round < 2; round++) {
      await Promise.all([one(1), two(1)])
      proxy.sayFirst(READY_FOR_QUERY)
      // Rows of another question that could be one's own, and such that cannot.
      const [first, second, third] = await Promise.allSettled([one(2), round === 0 ? one(3) : two(3), one(4)])
      mayBe(first, { n: 2 })
      mayBe(second, round === 0 ? { n: 3 } : { n: 3, m: 0 })
      mayBe(third, { n: 4 })
    }
    await database.close()
  }
  await proxy.close()
})

test('a row that cannot be what was asked for is an answer to nobody: the database is unavailable', async () => {
  const proxy = await startProxy(db.url)
  const database = open(proxy.url, { max: 1 })
  const ask = (n: number) => database.run(async (sql) => [...(await sql`select ${n}::int as n`)])
  await ask(1)
  proxy.sayFirst(EMPTY_ROW)
  await assert.rejects(ask(2), unavailable)
  assert.deepEqual(await ask(3), [{ n: 3 }])
  await database.close()
  await proxy.close()
})
