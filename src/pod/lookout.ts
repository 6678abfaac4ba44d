import type { Beat } from './pod.sql.ts'

/** What was under way when a beat was made. */
export type Horizon = Pick<Beat, 'ended_before' | 'begun_before'>

/**
 * Whether there may be rows that nobody has announced, told by the beat that a pod sends anyway: an idle pod asks
 * nothing else of the database. Numbers of a sequence that were drawn since the last beat are a reason to look. What
 * drew them may not be committed yet, so there is one more look when everything has ended that was under way then.
 */
export function createLookout(): (drawn: string, horizon: Horizon) => boolean {
  let seen: string | undefined
  let openBefore: string | undefined
  return (drawn, { ended_before, begun_before }) => {
    if (drawn !== seen) {
      seen = drawn
      openBefore = begun_before
      return true
    }
    if (openBefore === undefined) return false
    if (BigInt(ended_before) >= BigInt(openBefore)) openBefore = undefined
    return true
  }
}
