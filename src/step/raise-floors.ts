import type { Database } from '../db/connect.ts'
import { lastPosition, raiseFloors, setNextFloor } from './floor.sql.ts'

/** Floors rise to the candidate of the last time, and a new one is taken. */
export async function raiseLaneFloors(database: Database): Promise<{ raised: number; candidate: string }> {
  const raised = await database.run(raiseFloors)
  const [last] = await database.run(lastPosition)
  const candidate = last?.position ?? '0'
  await database.run((sql) => setNextFloor(sql, candidate))
  return { raised: raised.length, candidate }
}

/** Nothing is submitted, but what lies in the lanes may be worked off. */
const REST_MS = 60_000

/** A chore of the leader. Where neither a position was drawn nor a floor rose, it rests. */
export function createFloorRaiser(database: Database): () => Promise<void> {
  let before: string | undefined
  let restUntil = 0
  return async () => {
    if (performance.now() < restUntil) return
    const { raised, candidate } = await raiseLaneFloors(database)
    if (raised === 0 && candidate === before) restUntil = performance.now() + REST_MS
    before = candidate
  }
}
