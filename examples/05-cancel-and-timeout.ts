/** A handler that listens to its signal ends when it is cancelled and when its time is over. */
import { setTimeout as rest } from 'node:timers/promises'
import { createPod, defineStep } from 'fleet-q'
import { createClient } from 'fleet-q/client'

const heard: string[] = []

const long = defineStep('long', {}, async (_, ctx) => {
  ctx.signal.addEventListener('abort', () => heard.push(String(ctx.signal.reason)))
  // Whatever takes a signal can be stopped: timers, fetch, child processes.
  await rest(60_000, undefined, { signal: ctx.signal })
})

const { DATABASE_URL } = process.env
const pod = await createPod({
  steps: [long],
  silent: true,
  settings: { DATABASE_URL, FLEET_Q_API_PORT: '0' },
})
const client = createClient({ baseUrl: `http://127.0.0.1:${pod.address.port}` })

const cancelled = await client.submitStep({ type: 'long', args: {} })
while ((await client.getStatus({ step_id: cancelled.step_id })).status !== 'claimed') await rest(20)
await client.cancelStep({ step_id: cancelled.step_id, reason: 'ordered by mistake' })
console.log((await client.waitFor(cancelled.step_id)).status)
// Cancelled is an outcome at once; the handler hears of it a moment later.
while (heard.length < 1) await rest(20)

const limited = await client.submitStep({ type: 'long', args: {}, timeout_seconds: 0.2, max_retries: 0 })
console.log((await client.waitFor(limited.step_id)).status)

console.log(heard)

await pod.stop()

/* It prints:
cancelled
failed
[
  'Stop: the step is cancelled',
  'Stop: the attempt did not end within 0.2 s'
]
*/
