import type { Beat } from './pod.sql.ts'

type Drawn = Pick<Beat, 'last_position' | 'ended_before' | 'begun_before' | 'paused'>

/**
 * Whether there may be work that nobody has announced, told by the beat that a pod sends anyway: an idle pod asks
 * nothing else of the database. Positions that were drawn since the last beat are a reason to look. What drew them may
 * not be committed yet, so there is one more look when everything has ended that was under way then. A pause may end by
 * the clock, so where there is one, each beat is a reason.
 */
export function createLookout(): (beat: Drawn) => boolean {
  let seen: string | undefined
  let openBefore: string | undefined
  return ({ last_position, ended_before, begun_before, paused }) => {
    const moved = last_position !== seen
    if (moved) {
      seen = last_position
      openBefore = begun_before
      return true
    }
    if (openBefore === undefined) return paused
    if (BigInt(ended_before) >= BigInt(openBefore)) openBefore = undefined
    return true
  }
}
