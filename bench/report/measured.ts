import type { Profile } from '../adapters/adapter.ts'
import type { Metric, Run } from '../rows/row.ts'

/** All runs of one contender in one case. */
export interface Measured {
  row: string
  title: string
  metrics: Metric[]
  name: string
  profile: Profile
  /** Of its profile, in words. */
  settings: string
  less: string
  /** `othersCpu`: the share of the machine that was busy with neither contender nor bench. */
  runs: (Run & { ms: number; othersCpu: number })[]
  /** Why a run has no figure. */
  failures: string[]
  /** It cannot be had on this machine, and why. */
  unavailable?: string | undefined
}

export interface Summary {
  median: number
  min: number
  max: number
}

export function summarise(measured: Measured, key: string): Summary | undefined {
  const values = measured.runs.flatMap(({ figures }) => figures[key] ?? []).toSorted((a, b) => a - b)
  if (values.length === 0) return undefined
  const middle = (values.length - 1) / 2
  const at = (i: number) => values[i] ?? 0
  return {
    median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2,
    min: at(0),
    max: at(values.length - 1),
  }
}

const SAID: Partial<Record<Profile, string>> = { results: 'results kept', ahead: 'more held ahead' }

/** With its profile, where others of that name stand beside it. */
export function labelOf(one: Measured, group: Measured[]): string {
  const said = SAID[one.profile]
  if (said !== undefined) return `${one.name}, ${said}`
  const isAlone = group.filter(({ name }) => name === one.name).length === 1
  return isAlone ? one.name : `${one.name}, ${one.profile}`
}
