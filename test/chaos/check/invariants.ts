import type { Sql } from '../../../src/db/connect.ts'
import { HEARD } from './heard.ts'
import { KEPT } from './kept.ts'
import { REMEMBERED } from './remembered.ts'
import { TOLD } from './told.ts'

/**
 * What must hold after a run, whatever happened in it. Each looks in the tables, in the audit that the database wrote
 * and in what the client was told; never in what pods say of themselves. A query answers its witnesses, none if all
 * is well, the smallest first.
 */
export interface Invariant {
  id: string
  says: string
  witnesses(sql: Sql): Promise<{ witness: string }[]>
}

export interface Gap {
  id: string
  why: string
}

const number = ({ id }: Invariant) => Number(id.slice(1))

export const INVARIANTS: Invariant[] = [...TOLD, ...KEPT, ...REMEMBERED, ...HEARD].toSorted(
  (a, b) => number(a) - number(b),
)

/** Kept visible: invariants of the programme that nothing of the product can break yet. */
export const GAPS: Gap[] = [
  { id: 'I9', why: 'there are no schedules yet' },
  { id: 'I12', why: 'there are no flows yet' },
]
