/** A thousand steps at once, on as many pods as there are, and one that waits for all of them and is woken once. */
import { createPod, defineStep } from 'fleet-q'
import { createClient } from 'fleet-q/client'
import { z } from 'zod'

const Page = z.object({ page: z.int() })

const count = defineStep('count-words', { input: Page }, ({ page }) => ({ page, words: 100 + (page % 7) }))

const book = defineStep('count-book', { input: z.object({ pages: z.int() }) }, async ({ pages }, ctx) => {
  const wishes = Array.from({ length: pages }, (_, i) => ({ type: 'count-words', args: { page: i + 1 } }))
  // One submit, of all or none, and one checkpoint.
  const children = await ctx.submitAll('pages', wishes)
  // One wait. In between this execution holds no slot and no memory.
  const counted = z.array(Page.extend({ words: z.int() })).parse(await children.results())
  return { pages: counted.length, words: counted.reduce((sum, { words }) => sum + words, 0) }
})

const { DATABASE_URL } = process.env
const pod = await createPod({
  steps: [count, book],
  silent: true,
  settings: { DATABASE_URL, FLEET_Q_API_PORT: '0' },
})
const client = createClient({ baseUrl: `http://127.0.0.1:${pod.address.port}` })

const { execution_id, step_id } = await client.startExecution({
  task_name: 'count-book',
  payload: { pages: 1000 },
})
const { status, result, steps } = await client.waitForExecution({ execution_id })
console.log(status, result)
console.log(
  'it remembers',
  steps.map(({ name, kind }) => `${name} (${kind})`),
)
const { attempts } = await client.getStatus({ step_id })
console.log('replayed a second time at most:', attempts.length <= 2)

await pod.stop()

/* It prints:
completed { pages: 1000, words: 103003 }
it remembers [ 'pages (children)', 'pages/results (results)' ]
replayed a second time at most: true
*/
