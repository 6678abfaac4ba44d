/** A draft goes to a person until she is content; whoever does not answer in time is passed over. */
import { setTimeout as rest } from 'node:timers/promises'
import { createPod, defineStep, EventTimeout, NonRetryableError } from 'fleet-q'
import { createClient } from 'fleet-q/client'
import { z } from 'zod'

/** Stands for mails to people, with what they are to read. */
const mails: string[] = []

/** Stands for a model that writes. */
const write = (question: string, wishes: string[]) => [`On "${question}"`, ...wishes].join(', ')

const Review = z.object({ verdict: z.enum(['send', 'change']), wish: z.string().optional() })
const REVIEWERS = [
  // An hour, say.
  { name: 'Ada', patience: '300 ms' },
  { name: 'Grace', patience: '1 day' },
]

const reply = defineStep(
  'reply',
  { input: z.object({ question: z.string() }) },
  async ({ question }, ctx) => {
    const wishes: string[] = []
    for (const { name, patience } of REVIEWERS)
      try {
        for (;;) {
          // Names may come again in a loop: each time is remembered apart.
          const draft = await ctx.run('draft', () => write(question, wishes))
          await ctx.run('ask', () => mails.push(`to ${name}: ${draft}`))
          const review = await ctx.waitForEvent('review', { schema: Review, timeout: patience })
          if (review.verdict === 'send') return { draft, released_by: name }
          wishes.push(review.wish ?? 'better')
        }
      } catch (error) {
        // Only what this is about: a handler is told to stop by an error as well.
        if (!(error instanceof EventTimeout)) throw error
      }
    throw new NonRetryableError('nobody looked at it')
  },
)

const { DATABASE_URL } = process.env
const pod = await createPod({
  steps: [reply],
  silent: true,
  settings: { DATABASE_URL, FLEET_Q_API_PORT: '0' },
})
const client = createClient({ baseUrl: `http://127.0.0.1:${pod.address.port}` })

const { execution_id } = await client.startExecution({ task_name: 'reply', payload: { question: 'Why?' } })
const review = (payload: z.input<typeof Review>) =>
  client.sendEvent({ execution_id, event_name: 'review', payload })
const mailed = async (count: number) => {
  while (mails.length < count) await rest(20)
}

await mailed(2) // Ada has not answered, Grace is asked
await review({ verdict: 'change', wish: 'but friendlier' })
await mailed(3)
await review({ verdict: 'send' })
const { status, result } = await client.waitForExecution({ execution_id })
console.log(mails)
console.log(status, result)

await pod.stop()

/* It prints:
[
  'to Ada: On "Why?"',
  'to Grace: On "Why?"',
  'to Grace: On "Why?", but friendlier'
]
completed { draft: 'On "Why?", but friendlier', released_by: 'Grace' }
*/
