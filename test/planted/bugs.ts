import { CLAIM } from './bugs/claim.ts'
import { EXECUTION } from './bugs/execution.ts'
import { POD } from './bugs/pod.ts'
import { RECOVERY } from './bugs/recovery.ts'
import { STEP } from './bugs/step.ts'

/** A mistake that queues on Postgres have made, fitted to our storage: it must be caught. */
export interface Bug {
  what: string
  /** All of them together. */
  changes: { file: string; from: string; to: string }[]
  /** The cheapest first: see layer.ts. */
  layers: string[]
}

export const BUGS: Bug[] = [...STEP, ...CLAIM, ...RECOVERY, ...POD, ...EXECUTION]

/** Kept visible: mistakes that nothing of the product can make yet. */
export const GAPS = [
  { what: 'flows count their open edges without a lock', why: 'there are no flows yet' },
  { what: "a schedule's tick is told by the clock on the wall", why: 'there are no schedules yet' },
]
