import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atEnd } from '../support/cleanup.ts'
import type { TestDatabase } from '../support/database.ts'
import { get, submit } from '../support/http.ts'

/** One execution of twenty checkpoints, at each of which something happens; each is to be done once. */

export const CHECKPOINTS = 20
const PLACES = Array.from({ length: CHECKPOINTS }, (_, i) => i + 1)

export interface Fated {
  readonly id: string
  readonly folder: string
  /** By whichever pod is asked; undefined before its end. */
  ended(url: string | undefined): Promise<Record<string, unknown> | false>
  /** All results are there, and nothing was done twice: neither in the database nor outside. */
  assertOnce(status: Record<string, unknown>): Promise<void>
}

export async function beginFated(
  { sql }: TestDatabase,
  url: string,
  meets: 'death' | 'outage',
): Promise<Fated> {
  await sql`create table public.effects (place int)`
  const folder = mkdtempSync(join(tmpdir(), 'fleet-q-'))
  atEnd(() => rmSync(folder, { recursive: true }))
  const id = await submit(url, { type: 'fated', args: { folder, checkpoints: CHECKPOINTS, meets } })
  return {
    id,
    folder,
    async ended(asked = '') {
      const reply = await get(asked, `/status/${id}`).catch(() => undefined)
      return reply?.body['tray'] === 'settled' && reply.body
    },
    async assertOnce(status) {
      assert.deepEqual(status['result'], { got: PLACES })
      const ledger = await sql`select place from public.effects order by place`
      assert.deepEqual(
        ledger.map((row) => row['place']),
        PLACES.filter((place) => place % 2 === 0),
      )
      const effects = readFileSync(join(folder, 'effects'), 'utf8').trim().split('\n').map(Number)
      assert.deepEqual(
        effects,
        PLACES.filter((place) => place % 2 === 1),
      )
    },
  }
}
