import type { Database } from '../db/connect.ts'
import { lastPosition, raiseFloors, setNextFloor } from './floor.sql.ts'

/** One round of the leader: floors rise to the candidate of the last round, and a new one is taken. */
export async function raiseLaneFloors(database: Database): Promise<void> {
  await database.run(raiseFloors)
  const [last] = await database.run(lastPosition)
  if (last) await database.run((sql) => setNextFloor(sql, last.position))
}
