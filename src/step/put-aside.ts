import type { Sql } from '../db/connect.ts'
import { findFollowers } from './cancel.sql.ts'
import { cancelWithFollowers } from './cancel.ts'
import { childKey } from './child-key.ts'
import { freeKeys, type AsideRow } from './put-aside.sql.ts'
import { parsePublicId } from './step.ts'

/**
 * What submitted steps and was put aside submits them anew: what it had submitted, and is not detached, is cancelled.
 * Answers how many were.
 */
export async function dropChildren(tx: Sql, aside: readonly AsideRow[]): Promise<number> {
  const places = aside.filter(({ kind }) => kind === 'child' || kind === 'children')
  if (places.length === 0) return 0
  await freeKeys(
    tx,
    places.map((place) => childKey(place.step_id, place)),
  )
  const parents = [...new Set(places.map((place) => place.step_id))]
  const followers = new Set((await findFollowers(tx, parents)).map(({ id }) => id))
  const live = places.flatMap(childrenOf).filter((id) => followers.has(id))
  if (live.length === 0) return 0
  return (await cancelWithFollowers(tx, live, 'what had submitted it was sent back')).length
}

const childrenOf = ({ child_id, children }: AsideRow): string[] =>
  child_id === null ? (children ?? []).flatMap((stepId) => parsePublicId(stepId)?.id ?? []) : [child_id]
