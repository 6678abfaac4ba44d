import type { CheckpointRow } from './checkpoint.sql.ts'

/**
 * The order in which a handler gets what it asked for. It knows no database.
 *
 * Code that runs side by side (`Promise.all`) asks in an order that depends on which of its results came first, and names
 * that repeat are told apart by that order alone: the second `mail` of one attempt must not be the first of the next. So
 * results have turns. Each is handed out alone, and the next only when the handler has come to rest; a replay hands them
 * out in the turns that they had. What is new begins when all that is remembered was handed out, and what was open is asked
 * for again: then the code stands where it stood.
 */
export interface Replay {
  /** To be called at once when the handler asks, for the order of asking counts. */
  ask(name: string): Ask
  /** A turn for a result that has come. */
  takeTurn(): number
  /** What was to have it did not come about. */
  dropTurn(turn: number): void
  /** Until that turn is handed out. */
  handed(turn: number): Promise<void>
  /** Something may have come to rest. */
  look(): void
  /** What is remembered and was not asked for. */
  missed(): CheckpointRow[]
  end(): void
}

export interface Ask {
  readonly name: string
  readonly number: number
  /** The last turn that was handed out before. */
  readonly after: number
  readonly remembered: CheckpointRow | undefined
  /** Something that is remembered has not been handed out yet. */
  readonly isReplaying: boolean
  /** Until everything that is remembered was handed out. */
  frontier(): Promise<void>
}

export interface ReplayOptions {
  /** The code has asked for something else, and not for what comes next in what is remembered. */
  onMisfit(next: CheckpointRow, asked: string): void
  /** So long other code may take to ask for what comes next, while what comes after it is asked for. */
  patienceMs: number
  /** All was handed out, and the handler has come to rest. */
  onRest(): void
}

/**
 * Code that is slow to ask for what comes next, beside other code that waits for something new, looks like code that will
 * never ask. In a sequence there is no such doubt: nothing new is asked for meanwhile.
 */
const MISFIT_MS = 2000
/** Looks, not one span of time: a process that was frozen meanwhile has looked once more when it wakes. */
const MISFIT_LOOK_MS = 100

export function createReplay(rows: CheckpointRow[], { onMisfit, onRest, patienceMs }: ReplayOptions): Replay {
  const byName = new Map(rows.map((row) => [keyOf(row), row]))
  const turns = rows.flatMap(({ turn }) => turn ?? []).toSorted((a, b) => a - b)
  const open = rows.filter(({ turn }) => turn === null)
  const ofTurn = new Map(rows.map((row) => [row.turn, row]))
  const timesAsked = new Map<string, number>()
  const askedFor = new Set<CheckpointRow>()
  const waiting = new Map<number, () => void>()
  const dropped = new Set<number>()
  /** New, and asked for before everything that is remembered was handed out. */
  let held: { name: string; begin: () => void }[] = []
  let place = 0
  let handedTurn = 0
  let lastTurn = turns.at(-1) ?? 0
  let resting = true
  let over = false
  let doubt: NodeJS.Timeout | undefined

  const isReplaying = () => place < turns.length
  /**
   * What it slept or waited for, and has not come to yet. Code that never comes to it would be woken by its event, and woken
   * again, for nobody takes that: a hundred attempts a second, seen.
   */
  const leftOpen = () => open.find((row) => !askedFor.has(row))

  /** Hands out what is next, and then waits until the handler has done with it what it can do at once. */
  function advance() {
    if (!resting || over) return
    clearInterval(doubt)
    while (dropped.has(handedTurn + 1)) handedTurn++
    const next = turns[place] ?? handedTurn + 1
    const hand = waiting.get(next)
    if (hand) {
      waiting.delete(next)
      handedTurn = next
      place++
      hand()
      return rest()
    }
    if (isReplaying()) return suspect()
    if (held.length === 0) return onRest()
    if (leftOpen()) return suspect()
    const begun = held
    held = []
    for (const { begin } of begun) begin()
    rest()
  }

  function rest() {
    resting = false
    // Past the microtasks: what the handler asks for without waiting for the world outside it has asked for by then.
    setImmediate(() => {
      resting = true
      advance()
    })
  }

  function suspect() {
    const next = isReplaying() ? ofTurn.get(turns[place] ?? 0) : leftOpen()
    const [first] = held
    // Or something that is remembered, and comes later: where code was taken out, or put in another order.
    const asked = first?.name ?? ofTurn.get(Math.min(...waiting.keys()))?.name
    if (!next || asked === undefined || askedFor.has(next)) return
    const limitMs = first ? Math.min(MISFIT_MS, patienceMs) : patienceMs
    let looks = 0
    doubt = setInterval(() => {
      if (++looks * MISFIT_LOOK_MS < limitMs) return
      clearInterval(doubt)
      onMisfit(next, asked)
    }, MISFIT_LOOK_MS)
  }

  const look = () => {
    if (resting && !over) rest()
  }

  return {
    ask(name) {
      const number = (timesAsked.get(name) ?? 0) + 1
      timesAsked.set(name, number)
      const remembered = byName.get(keyOf({ name, number }))
      if (remembered) askedFor.add(remembered)
      return {
        name,
        number,
        after: handedTurn,
        remembered,
        isReplaying: isReplaying(),
        frontier: () =>
          new Promise((begin) => {
            held.push({ name, begin })
            look()
          }),
      }
    },
    takeTurn: () => ++lastTurn,
    dropTurn(turn) {
      dropped.add(turn)
      look()
    },
    handed: (turn) =>
      new Promise((resolve) => {
        waiting.set(turn, resolve)
        look()
      }),
    look,
    missed: () => rows.filter((row) => !askedFor.has(row)),
    end() {
      over = true
      clearInterval(doubt)
    },
  }
}

const keyOf = ({ name, number }: { name: string; number: number }) => `${number} ${name}`
