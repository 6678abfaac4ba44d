/** What a handler can say when it does not succeed, and when the next attempt comes. */
import { createPod, defineStep, NonRetryableError, retry, snooze } from 'fleet-q'
import { createClient } from 'fleet-q/client'
import { z } from 'zod'

/** Stands for a service that answers with the next of these each time. */
const answers: Record<string, number[]> = {
  flaky: [500, 500, 200],
  busy: [429, 200],
  closed: [503, 503, 200],
  forbidden: [403],
}

const call = defineStep(
  'call',
  {
    input: z.object({ service: z.string() }),
    // Of this type, where a step has no policy of its own.
    backoff: { strategy: 'exponential', base_ms: 50, max_ms: 10_000, jitter: 0.5 },
  },
  ({ service }) => {
    const answer = answers[service]?.shift() ?? 200
    if (answer === 429) return retry(100, 'told to come back') // an attempt, at a time of our choosing
    if (answer === 503) return snooze(100, 'closed just now') // no attempt
    if (answer === 403) throw new NonRetryableError('not allowed') // the last attempt
    if (answer >= 500) throw new Error(`answered ${answer}`) // an attempt; the policy says when
    return { answer }
  },
)

const { DATABASE_URL } = process.env
const pod = await createPod({
  steps: [call],
  silent: true,
  settings: { DATABASE_URL, FLEET_Q_API_PORT: '0' },
})
const client = createClient({ baseUrl: `http://127.0.0.1:${pod.address.port}` })

for (const service of Object.keys(answers)) {
  const { step_id } = await client.submitStep({ type: 'call', args: { service }, max_retries: 2 })
  const { status, retry_count, attempts } = await client.waitFor(step_id)
  const ends = attempts.map(({ ended }) => ended).join(', ')
  console.log(`${service}: ${status} with ${retry_count} retries (${ends})`)
}

await pod.stop()

/* It prints:
flaky: completed with 2 retries (failed, failed, completed)
busy: completed with 1 retries (retried, completed)
closed: completed with 0 retries (snoozed, snoozed, completed)
forbidden: failed with 0 retries (failed)
*/
