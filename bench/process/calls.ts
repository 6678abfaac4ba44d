import type { Profile } from '../adapters/adapter.ts'

/** What the bench asks of its processes. Answers travel as structured clones, so that arrays of numbers stay small. */

export interface WorkCall {
  adapter: string
  url: string
  profile: Profile
  /** Numbers of the jobs are below this. */
  jobs: number
  settings?: Record<string, string>
  handlesNothing?: boolean
  /** How long each handler runs; not at all without it. */
  holdMs?: number
  /** Each job is an execution of so many checkpoints; of none without it. */
  checkpoints?: number
  /** So many workers in this process, where the row wants more of them than the machine could bear processes. */
  times?: number
}

export interface Seen {
  handled: number
  /** When each job started, on the clock of the machine; 0: never. */
  startedAt: Float64Array
  /** How often each job ran. */
  runs: Uint8Array
  executions: SeenExecutions
}

/** Empty where the jobs are no executions. */
export interface SeenExecutions {
  /** When each had its last checkpoint, on the clock of the machine. */
  endedAt: Float64Array
  /** How often each body ran: those of the first execution, then those of the second. */
  bodies: Uint8Array
  /** How long each checkpoint took, from its call to its answer, in the same order. */
  tookMs: Float64Array
}

export interface SubmitCall {
  adapter: string
  url: string
  profile: Profile
  callers: number
  ms: number
  /** No more than these, however much time there is. */
  jobsMax?: number
  /** Jobs in each call: 1 for single submits. */
  batch: number
  pad?: string
}

export interface Submitted {
  jobs: number
  ms: number
}

export interface OfferCall {
  adapter: string
  url: string
  profile: Profile
  perSecond: number
  jobs: number
  /** Of the pod to submit to; without it the adapter's own producer is used. */
  address?: string
}

export interface Offered {
  /** When the call was made, and when its answer was there, for each job. */
  calledAt: Float64Array
  ackedAt: Float64Array
}

export interface KeepAheadCall {
  adapter: string
  url: string
  profile: Profile
  ahead: number
  batch: number
}

export interface RequestCall {
  /** Where POST /submit is served. */
  address: string
  body: Record<string, unknown>
  connections: number
  ms: number
}

export interface FillCall {
  adapter: string
  url: string
  profile: Profile
  jobs: number
  pad?: string
}

export interface Calls {
  /** Loads the adapter and its library, so that no clock sees it. */
  load(call: { adapter: string }): void
  /** Makes the schema, and puts jobs there. */
  fill(call: FillCall): void
  work(call: WorkCall): { address: string | undefined }
  seen(): Seen
  /** Handlers that have started since the start. */
  handled(): number
  stopWork(): void
  submit(call: SubmitCall): Submitted
  offer(call: OfferCall): Offered
  /** Until stopAhead: keeps so many jobs more in the queue than were handled, as told by `handledElsewhere`. */
  keepAhead(call: KeepAheadCall): void
  handledElsewhere(call: { handled: number }): { submitted: number }
  stopAhead(): { submitted: number }
  request(call: RequestCall): Submitted
}

export type Name = keyof Calls
export type Argument<N extends Name> = Parameters<Calls[N]>[0]
export type Answer<N extends Name> = ReturnType<Calls[N]>

export interface Asked {
  id: number
  name: Name
  argument: unknown
}

export type Told = { id: number; answer: unknown } | { id: number; failure: string } | { handled: number }
