/** A part of a pod that runs until it is told to stop. `stop` may be called in any state, and twice. */
export interface Service {
  readonly name: string
  start(): Promise<void> | void
  stop(): Promise<void> | void
}
