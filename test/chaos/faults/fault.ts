import type { World } from '../world.ts'

/** What a nemesis can do. It begins, lasts, and is over when what it answered was called. */
export interface FaultKind {
  about: string
  /** The shortest and the longest that it lasts; [0, 0] where it is over at once. */
  lastsMs: [number, number]
  /** How often in each round of the plan; once if nothing is said. */
  often?: number
  /** Answers what it did, and how to end it; undefined where there was nobody to do it to. */
  begin(world: World, dice: number): Promise<Done | undefined>
}

export interface Done {
  what: string
  /** While it lasts, and a threshold after it, nobody can be quick. */
  isOutage?: boolean
  end?: () => Promise<void> | void
}
