/** One stream of numbers from one seed: a plan made twice is the same plan. */
export interface Random {
  /** From 0, below 1. */
  next(): number
  /** A whole number, both ends included. */
  between(low: number, high: number): number
  pick<T>(some: readonly T[]): T
}

/** mulberry32: 32 bits of state are plenty for a plan of some hundred faults. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    next,
    between: (low, high) => low + Math.floor(next() * (high - low + 1)),
    pick(some) {
      const picked = some[Math.floor(next() * some.length)]
      if (picked === undefined) throw new Error('nothing to pick from')
      return picked
    },
  }
}
