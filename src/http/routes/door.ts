import type { Database } from '../../db/connect.ts'
import type { Meters } from '../../kernel/meters.ts'
import type { CycleSummary } from '../../recovery/run-cycle.ts'
import type { StepDefinition } from '../../step/handler.ts'
import type { Submitter } from '../../step/submit.ts'
import type { WaitingRoom } from '../../step/waiting-room.ts'
import type { Hint } from '../../pod/hints.ts'

/** What the routes need of the pod that serves them; the composition root hands it in. */
export interface Door {
  database: Database
  submitter: Submitter
  waits: WaitingRoom
  /** Types that this pod handles. */
  registry: ReadonlyMap<string, { definition: StepDefinition }>
  podId: string
  publicId: string
  version: string
  capacity: number
  /** Calls to the other pods. */
  say(kind: Hint['kind']): void
  onReady(): void
  /** Fulfilled when what runs here has heard it. */
  onCancelled(): Promise<void>
  onLimit(): void
  onCycle(summary: CycleSummary): void
  /** Of this pod, while it leads. */
  term(): string | undefined
  vitals(): Vitals
  meters: Meters
}

export interface Vitals {
  phase: 'starting' | 'ready' | 'draining' | 'stopped'
  uptimeSeconds: number
  running: number
  stuck: number
  healthy: boolean
  /** Under way, by pool. */
  databaseCalls: Record<string, number>
  beatAgeMs: number | undefined
  heartbeatMs: number
  loopAgesMs: Record<string, number | undefined>
}
