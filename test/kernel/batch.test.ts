import assert from 'node:assert/strict'
import { test } from 'node:test'
import { batcher } from '../../src/kernel/batch.ts'

/** A flush that is let go by hand, so that a test decides who meets whom. */
function gated() {
  const batches: number[][] = []
  const gates: ((error?: Error) => void)[] = []
  const flush = (items: number[]) =>
    new Promise<number[]>((resolve, reject) => {
      batches.push(items)
      gates.push((error) => (error ? reject(error) : resolve(items.map((item) => item * 10))))
    })
  const turn = () => new Promise((resolve) => setImmediate(resolve))
  // One turn for the answers, one in which whoever was answered may ask again.
  const go = async (n: number, error?: Error) => {
    gates[n]?.(error)
    await turn()
    await turn()
  }
  return { batches, flush, go }
}

test('the first caller goes at once and alone; those who come meanwhile share the next batch', async () => {
  const { batches, flush, go } = gated()
  const ask = batcher({ batchMax: 10, flush })
  const answers = [ask(1), ask(2), ask(3)]
  assert.deepEqual(batches, [[1]])
  await go(0)
  assert.deepEqual(batches, [[1], [2, 3]])
  await go(1)
  assert.deepEqual(await Promise.all(answers), [10, 20, 30])
})

test('a batch is never larger than its bound', async () => {
  const { batches, flush, go } = gated()
  const ask = batcher({ batchMax: 2, flush })
  const answers = [1, 2, 3, 4].map((n) => ask(n))
  for (let n = 0; n < 3; n++) await go(n)
  assert.deepEqual(batches, [[1], [2, 3], [4]])
  assert.deepEqual(await Promise.all(answers), [10, 20, 30, 40])
})

test('under load a second batch goes out behind the first; a few that wait are not torn apart for it', async () => {
  const { batches, flush, go } = gated()
  const ask = batcher({ batchMax: 100, flush })
  const numbers = Array.from({ length: 20 }, (_, n) => n)
  const answers = numbers.slice(0, 16).map((n) => ask(n))
  assert.deepEqual(batches, [[0]], 'fifteen wait')
  answers.push(ask(16))
  assert.deepEqual(batches, [[0], numbers.slice(1, 17)], 'sixteen do not')
  answers.push(...numbers.slice(17).map((n) => ask(n)))
  await go(0)
  assert.equal(batches.length, 2, 'who comes while the second is under way waits for it')
  await go(1)
  assert.deepEqual(batches.slice(2), [[17, 18, 19]])
  await go(2)
  assert.deepEqual(
    await Promise.all(answers),
    numbers.map((n) => n * 10),
  )
})

test('a failure reaches every caller of its batch and nobody else', async () => {
  const { flush, go } = gated()
  const ask = batcher({ batchMax: 10, flush })
  const answers = Promise.allSettled([ask(1), ask(2), ask(3)])
  await go(0)
  await go(1, new Error('away'))
  assert.deepEqual(
    (await answers).map(({ status }) => status),
    ['fulfilled', 'rejected', 'rejected'],
  )
  const later = ask(4)
  await go(2)
  assert.equal(await later, 40)
})

test('a failure that may be one caller’s own is found out one by one', async () => {
  const ask = batcher<number, number>({
    batchMax: 10,
    flush: async (items) => {
      await Promise.resolve()
      if (items.includes(2)) throw new Error('bad 2')
      return items
    },
    alone: () => true,
  })
  const results = await Promise.allSettled([ask(1), ask(2), ask(3)])
  assert.deepEqual(
    results.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  )
})
