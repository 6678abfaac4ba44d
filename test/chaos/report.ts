import type { Recovery, Verdict } from './check/check.ts'
import type { Gap } from './check/invariants.ts'
import type { Happened } from './nemesis.ts'
import type { Plan } from './plan.ts'

export interface Report {
  seed: number
  startedAt: string
  seconds: number
  accepted: number
  executions: number
  /** How often each kind really happened. */
  faults: Record<string, number>
  happened: Happened[]
  quietMs: number
  verdicts: Verdict[]
  gaps: Gap[]
  recovery: Recovery
  totals: {
    steps: number
    settled: number
    died_under: number
    refused: number
    poison: number
    pods: number
    terms: number
    checkpoints: number
    events: number
  }
  broken: number
}

export function countFaults(happened: Happened[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { kind, what } of happened) if (what !== undefined) counts[kind] = (counts[kind] ?? 0) + 1
  return counts
}

/** For people: what was done, what held, and what did not. */
export function inWords(report: Report): string {
  const { totals, recovery } = report
  const done = Object.values(report.faults).reduce((sum, n) => sum + n, 0)
  const lines = [
    '',
    `${report.accepted} steps and ${report.executions} executions accepted, ${totals.settled} outcomes; ${done} faults in ${report.seconds} s (seed ${report.seed})`,
    `${totals.pods} pods lived, ${totals.terms} terms; ${totals.died_under} attempts died with their pods, ${totals.refused} late answers were refused, ${totals.poison} steps were poison`,
    `${totals.checkpoints} checkpoints were written, ${totals.events} events were kept`,
    recovery.steps > 0
      ? `claimed again after a kill: p50 ${seconds(recovery.p50Ms)}, p99 ${seconds(recovery.p99Ms)}, worst ${seconds(recovery.maxMs)}, over ${recovery.steps} steps of ${recovery.kills} pods`
      : 'no killed pod held anything',
    `quiet ${seconds(report.quietMs)} after the last fault`,
    '',
    ...Object.entries(report.faults).map(([kind, n]) => `${String(n).padStart(5)} x ${kind}`),
    '',
    ...report.verdicts.flatMap(({ id, says, witnesses }) => [
      `${witnesses.length === 0 ? 'holds ' : 'BROKEN'}  ${id.padEnd(4)} ${says}`,
      ...witnesses.map((witness) => `        ${witness}`),
    ]),
    ...report.gaps.map(({ id, why }) => `gap     ${id.padEnd(4)} ${why}`),
    '',
    report.broken === 0 ? 'every invariant holds' : `${report.broken} invariants are broken`,
    '',
  ]
  return lines.join('\n')
}

/** The machine may be gone when somebody looks: what is needed to do it again stands in what was printed. */
export const howToReplay = (plan: Plan): string =>
  [
    'Once more: put the last line into plan.json, then',
    '  npm run test:chaos -- --replay plan.json',
    'and to see which of its faults it takes',
    '  npm run test:chaos -- --replay plan.json --shrink',
    JSON.stringify(plan),
    '',
  ].join('\n')

const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`
