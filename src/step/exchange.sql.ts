import type { Sql } from '../db/connect.ts'
import { claiming, takenSteps, type ClaimedStep, type DroppedSteps, type Want } from './claim.sql.ts'
import { settling, type RefusedReport, type Report } from './settle.sql.ts'

/** The one statement of a pod's work: settle what ended, take what there are free slots for. */
export const exchange = (sql: Sql, want: Want, reports: Report[], endedClaims: string[]) =>
  reports.length + endedClaims.length === 0
    ? claim(sql, want)
    : settleAndClaim(sql, want, reports, endedClaims)

type Answer = (ClaimedStep | RefusedReport | DroppedSteps)[]

/** With nothing to hand in, half of the statement falls away: that is what a step waits for on an idle pod. */
const claim = (sql: Sql, want: Want) => sql<Answer>`
  with /* step.claim */ ${claiming(sql, want)}
  ${takenSteps(sql)}
  order by priority desc nulls last, position`

const settleAndClaim = (sql: Sql, want: Want, reports: Report[], endedClaims: string[]) => sql<Answer>`
  with /* step.exchange */ ${settling(sql, want.podId, reports, endedClaims)}, ${claiming(sql, want)}
  ${takenSteps(sql)}
  union all
  select refused.kind, refused.claim_id, refused.step_id, null, null, null, null, null, null, null, null, null, null,
    null, null, null, null, null, null
  from refused
  order by priority desc nulls last, position`
