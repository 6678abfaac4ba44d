import { KINDS, type Kind } from './faults/kinds.ts'
import { createRandom } from './random.ts'

/** Everything that is drawn by chance, drawn before the run: a plan can be read, kept, replayed and made smaller. */
export interface Plan {
  seed: number
  pods: number
  steps: number
  /** Beside them, over the same time. */
  executions: number
  /** Steps are submitted over so long. */
  minutes: number
  faults: Fault[]
}

export interface Fault {
  /** In the order of the plan; it keeps its number when others are taken out. */
  n: number
  kind: Kind
  /** After the end of the fault before. */
  restMs: number
  /** From its beginning to its end; nothing where it is over at once. */
  lastsMs: number
  /** Drawn for whoever chooses a victim: pods are picked among those that live then. */
  dice: number
}

/** Enough for a fleet to come to itself, and sometimes not enough. */
const REST_MS = [100, 300, 800, 1500, 3000] as const

export interface Wish {
  seed: number
  minutes: number
  pods: number
  steps: number
  executions: number
  faults: number
  /** Faults that this machine cannot make. */
  without: Kind[]
}

/** Every kind once, in an order drawn by chance, then again: a kind that comes up by luck alone may not come up. */
export function makePlan({ seed, minutes, pods, steps, executions, faults, without }: Wish): Plan {
  const random = createRandom(seed)
  const kinds = (Object.keys(KINDS) as Kind[]).filter((kind) => !without.includes(kind))
  const deck: Kind[] = []
  while (deck.length < faults) deck.push(...shuffled(kinds.flatMap(copies), random.between))
  return {
    seed,
    pods,
    steps,
    executions,
    minutes,
    faults: deck.slice(0, faults).map((kind, i) => ({
      n: i + 1,
      kind,
      restMs: random.pick(REST_MS),
      lastsMs: random.between(...KINDS[kind].lastsMs),
      dice: random.next(),
    })),
  }
}

const copies = (kind: Kind): Kind[] => Array<Kind>(KINDS[kind].often ?? 1).fill(kind)

function shuffled<T>(some: T[], between: (low: number, high: number) => number): T[] {
  const cards = [...some]
  for (let i = cards.length - 1; i > 0; i--) {
    const j = between(0, i)
    ;[cards[i], cards[j]] = [cards[j] as T, cards[i] as T]
  }
  return cards
}
