import type { Log } from '../kernel/log.ts'
import type { Meters } from '../kernel/meters.ts'
import type { CycleSummary } from '../recovery/run-cycle.ts'

/** What a cycle of recovery found: for collectors, and where it found anything for people. */
export function noteCycle(summary: CycleSummary, meters: Meters, log: Log): void {
  meters.recoverySeconds.observe('cycle', summary.durationMs / 1000)
  if (summary.requeued > 0) meters.recovered.add(['put_back'], summary.requeued)
  if (summary.terminal > 0) meters.recovered.add(['given_up'], summary.terminal)
  if (summary.deadPods.length === 0 && summary.orphaned === 0) return
  log.warn(
    {
      cycle: summary.cycleId,
      dead: summary.dead.map((pod) => `${pod.public_id} (silent ${pod.silent_seconds.toFixed(1)} s)`),
      requeued: summary.requeued,
      terminal: summary.terminal,
      durationMs: summary.durationMs,
    },
    'recovered what dead pods held',
  )
}
