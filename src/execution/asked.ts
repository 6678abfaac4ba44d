/**
 * What a handler gets where it asks: a promise that knows whether anybody awaits it. It may fail before somebody does
 * (`const b = ctx.run(...); await a; await b`), and of a rejection that nobody has awaited yet Node ends the process.
 */
class Asked<T> extends Promise<T> {
  #isAwaited = false

  static override get [Symbol.species]() {
    return Promise
  }

  get isAwaited(): boolean {
    return this.#isAwaited
  }

  // oxlint-disable-next-line unicorn/no-thenable -- it is a promise
  override then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#isAwaited = true
    return super.then(onFulfilled, onRejected)
  }
}

/** What a handler asked for, and has left without a look: not done yet, or failed. */
interface Asking {
  ask<T>(words: string, what: Promise<T>): Promise<T>
  unheeded(): { error: unknown } | undefined
}

export function createAsking(notAwaited: (words: string) => Error): Asking {
  /** What became of each; an error is made when somebody asks, for its stack costs more than the rest. */
  const loose = new Map<Asked<unknown>, () => unknown>()
  return {
    ask<T>(words: string, what: Promise<T>) {
      const asked = new Asked<T>((resolve, reject) => void what.then(resolve, reject))
      loose.set(asked, () => notAwaited(words))
      what.then(
        () => loose.delete(asked),
        (error: unknown) => loose.set(asked, () => error),
      )
      // Now somebody has looked, as far as Node knows.
      void Promise.prototype.then.call(asked, undefined, () => {})
      return asked
    },
    unheeded() {
      for (const [asked, error] of loose) if (!asked.isAwaited) return { error: error() }
      return undefined
    },
  }
}
