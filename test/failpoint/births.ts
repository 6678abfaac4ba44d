import assert from 'node:assert/strict'
import { readMigrations } from '../../src/db/migrate.ts'
import type { Place } from '../../src/kernel/failpoint.ts'
import { allSettled, assertSound, endOf } from '../recovery/fleet.ts'
import { testDatabase, type TestDatabase } from '../support/database.ts'
import { submit } from '../support/http.ts'
import { spawnPod, whenUp, type PodChild } from '../support/processes.ts'
import { until } from '../support/until.ts'
import { armable, START_LIMIT_MS, WAIT_MS } from './fleet.ts'
import { spellOf, type Kind } from './scene.ts'

/** A pod that meets its failpoint before it is up, and the next one, which begins where it ended. */
export interface Birth {
  name: string
  places: Place[]
  /** Of the schema that it finds. */
  empty: boolean
}

export const births: Birth[] = [
  {
    name: 'the first start on an empty database',
    places: ['migration.before_commit', 'migration.after_commit'],
    empty: true,
  },
  { name: 'a registration', places: ['register.after'], empty: false },
]

export async function bear({ empty }: Birth, place: Place, kind: Kind) {
  const database = await testDatabase({ empty })
  const { env, options } = armable(spellOf(place, kind))
  const armed = spawnPod(database.url, env, options)
  await until(
    `${place} to go off`,
    () => armed.output().includes(`failpoint ${place}`) || armed.isOver,
    START_LIMIT_MS,
  )
  assert.match(armed.output(), new RegExp(`^failpoint ${place}: ${kind}`, 'm'))
  // It does not wait for the end of the other: a frozen one never comes to it.
  const next = armable()
  const other = await whenUp(spawnPod(database.url, next.env, next.options), START_LIMIT_MS)
  await fateOf(armed, place, kind, database)
  await submit(other.url, { type: 'plain', args: { op: 'first' } })
  await allSettled(database.sql, WAIT_MS)
  await assertSound(database.sql)
  await assertMigratedOnce(database)
  await end(armed, other)
}

async function fateOf(armed: PodChild, place: Place, kind: Kind, { sql }: TestDatabase) {
  if (kind === 'kill') assert.deepEqual(await endOf(armed, WAIT_MS), { code: null, signal: 'SIGKILL' })
  if (kind === 'throw') {
    assert.deepEqual(await endOf(armed, WAIT_MS), { code: 1, signal: null })
    assert.match(armed.output(), new RegExp(`fleet-q: .*failpoint ${place}`))
  }
  if (kind === 'delay') await whenUp(armed, START_LIMIT_MS)
  const isRegistered = place === 'register.after'
  if (isRegistered && kind !== 'delay')
    await until(
      'its row to be declared dead',
      async () => {
        const [row] = await sql`select 1 from fleet_q.pods where status = 'dead'`
        return row
      },
      WAIT_MS,
    )
  if (kind !== 'stop') return
  armed.signal('SIGCONT')
  // Its transaction was ended by the server meanwhile; or it has lost nothing, and comes up.
  if (place === 'migration.after_commit') await whenUp(armed, START_LIMIT_MS)
  else assert.deepEqual(await endOf(armed, WAIT_MS), { code: 1, signal: null })
}

async function assertMigratedOnce({ sql }: TestDatabase) {
  const rows = await sql<{ version: number }[]>`select version from fleet_q.migrations order by version`
  assert.deepEqual(
    rows.map((row) => row.version),
    readMigrations().map(({ version }) => version),
  )
}

async function end(...pods: PodChild[]) {
  for (const pod of pods) pod.signal('SIGKILL')
  await Promise.all(pods.map((pod) => pod.exited))
}
