import { forgetOldAudit } from '../access/forget-audit.ts'
import type { Config } from '../config.ts'
import type { Database } from '../db/connect.ts'
import { endPauses } from '../execution/pause-execution.ts'
import type { Chore } from '../leader/lead.ts'
import { recover } from '../recovery/recover.ts'
import type { CycleSummary } from '../recovery/run-cycle.ts'
import { createForgetter } from '../step/forget.ts'
import { createFloorRaiser } from '../step/raise-floors.ts'

const FORGET_EVERY_MS = 60_000
const END_PAUSES_EVERY_MS = 10_000
const MORE_MS = 1000

interface ChoresOptions {
  config: Config
  database: Database
  podId: string
  onCycle(summary: CycleSummary): void
  /** Something may start that could not before. */
  onReady(): void
}

/** What the leader does in each of its rounds. */
export function choresOf({ config, database, podId, onCycle, onReady }: ChoresOptions): Chore[] {
  const forgetter = createForgetter(database, config.retentionDays * 86_400)
  return [
    { name: 'recovery', run: (term) => recover({ database, podId, onCycle }, term) },
    { name: 'floors', run: createFloorRaiser(database) },
    { name: 'retention', run: atMostEvery(FORGET_EVERY_MS, async () => (await forgetter.round()).more) },
    { name: 'pauses', run: atMostEvery(END_PAUSES_EVERY_MS, () => endPauses(database, onReady)) },
    { name: 'audit', run: atMostEvery(FORGET_EVERY_MS, () => forgetOldAudit(database, config.auditDays)) },
  ]
}

/** A chore of its own, slower rhythm; while there is more to do, every second: 20,000 steps forgotten in each. */
function atMostEvery(ms: number, work: () => Promise<boolean>): Chore['run'] {
  let doneAt = Number.NEGATIVE_INFINITY
  return async () => {
    if (performance.now() - doneAt < ms) return undefined
    if (await work()) return MORE_MS
    doneAt = performance.now()
    return undefined
  }
}
