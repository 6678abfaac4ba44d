import type { Adapter, Profile } from '../adapters/adapter.ts'
import type { Copies } from '../server/copy.ts'
import type { Server } from '../server/start.ts'

/** A row of the table: what is measured, of whom, and how. */

export interface Contender {
  adapter: Adapter
  profile: Profile
}

export interface Metric {
  key: string
  /** As it stands in the table: "steps a second". */
  unit: string
  better: 'more' | 'less'
  /** How many times as good as the best of the others Fleet-Q means to be; said below the table. */
  target?: number
}

/** One run: a figure for each metric, and what else was seen. */
export interface Run {
  figures: Record<string, number>
  /** Of a curve: jobs a second in each window. */
  series?: number[]
}

/** Who is measured, and how often if the wish does not say. */
export interface Entry {
  name: string
  profile: Profile
  rounds?: number
}

/** The same for several. */
export const entries = (names: string[], profile: Profile, rounds = ROUNDS): Entry[] =>
  names.map((name) => ({ name, profile, rounds }))

export const ROUNDS = 3

export interface Case {
  row: string
  title: string
  metrics: Metric[]
  contenders: Entry[]
  measure(contender: Contender, bench: Bench): Promise<Run>
}

export interface Row {
  name: string
  about: string
  /** Only when asked for by name: it takes long. */
  byNameOnly?: boolean
  cases(size: Size): Case[]
}

export interface Bench {
  server: Server
  copies: Copies
  size: Size
}

/** How big everything is: the default fits into ten minutes. */
export interface Size {
  quick: boolean
  drainJobs: number
  submitMs: number
  backlogJobs: number
  pickupSeconds: number
  /** Of the rows that last: a pinned horizon, say. */
  minutes: number
}

/** Thrown by a run that has no figure: what is wrong with it, in words. */
export class NoFigure extends Error {
  override readonly name = 'NoFigure'
}
