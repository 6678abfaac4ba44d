/** Where so many wait, a second batch goes out behind the first; fewer would only be torn apart by it. */
const SECOND_FROM = 16

/**
 * Natural batching: the first caller goes at once and alone; whoever comes while it is under way shares the next
 * one. Under load batches grow by themselves, and nobody waits for a timer. Measured for inserts of 16 callers:
 * 31.7k/s against 19.3k/s on 16 connections.
 *
 * Between two batches lies one turn of the event loop: whoever was answered by the one and asks again joins the next.
 * Without it 16 callers went as 15, 1, 15, 1.
 *
 * Under load two are under way: while the answers of the one are handed out, Postgres has the other. 64 callers over
 * HTTP: 26k/s with two, 17.5k with one; on two connections, where the second overtakes the first, 21k.
 */
export function batcher<Item, Answer>(options: {
  batchMax: number
  /** Answers in the order of the items. */
  flush(items: Item[]): Promise<Answer[]>
  /** A failure that may be one item's own: each is then tried by itself. */
  alone?(error: unknown): boolean
}): (item: Item) => Promise<Answer> {
  const { batchMax, flush, alone } = options
  interface Waiting {
    item: Item
    resolve(answer: Answer): void
    reject(error: unknown): void
  }
  let waiting: Waiting[] = []
  let underWay = 0

  async function run() {
    underWay++
    do {
      const batch = waiting.slice(0, batchMax)
      waiting = waiting.slice(batchMax)
      await answer(batch)
      await new Promise((resolve) => setImmediate(resolve))
    } while (waiting.length >= (underWay > 1 ? SECOND_FROM : 1))
    underWay--
  }

  async function answer(batch: Waiting[]): Promise<void> {
    try {
      const answers = await flush(batch.map(({ item }) => item))
      for (const [i, { resolve, reject }] of batch.entries()) {
        const mine = answers[i]
        if (mine === undefined) reject(new Error('the batch gave no answer for an item'))
        else resolve(mine)
      }
    } catch (error) {
      if (batch.length > 1 && alone?.(error)) for (const single of batch) await answer([single])
      else for (const { reject } of batch) reject(error)
    }
  }

  return (item) =>
    new Promise((resolve, reject) => {
      waiting.push({ item, resolve, reject })
      if (underWay === 0 || (underWay === 1 && waiting.length >= SECOND_FROM)) void run()
    })
}
