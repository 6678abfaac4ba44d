/** An API fails: the one call is tried again, and not what came before it; then another is asked. */
import { createPod, defineStep, NonRetryableError, RunFailed } from 'fleet-q'
import { createClient } from 'fleet-q/client'
import { z } from 'zod'

/** Stands for services that answer with the next of these each time. */
const answers: Record<string, number[]> = { flaky: [503, 503, 200], down: [500, 500, 500], closed: [403] }
const calls: string[] = []

function call(service: string): string {
  calls.push(service)
  const answer = answers[service]?.shift() ?? 200
  if (answer === 200) return `a price of ${service}`
  const said = `${service} answered ${answer}`
  // Of a 403 no other try would help.
  throw answer === 403 ? new NonRetryableError(said) : new Error(said)
}

const quote = defineStep('quote', { input: z.object({ service: z.string() }) }, async ({ service }, ctx) => {
  await ctx.run('book keeping', () => void calls.push('book keeping'))
  try {
    // Two further tries of this body alone. They are counted in Postgres: a pod that dies does not begin anew.
    return await ctx.run('ask', () => call(service), { retry: { max: 2, base_ms: 20 } })
  } catch (error) {
    if (!(error instanceof RunFailed)) throw error
    const price = await ctx.run('ask another', () => call('the other'))
    return `${price}, for ${error.message}`
  }
})

const { DATABASE_URL } = process.env
const pod = await createPod({
  steps: [quote],
  silent: true,
  settings: { DATABASE_URL, FLEET_Q_API_PORT: '0' },
})
const client = createClient({ baseUrl: `http://127.0.0.1:${pod.address.port}` })

for (const service of Object.keys(answers)) {
  calls.length = 0
  const { execution_id } = await client.startExecution({ task_name: 'quote', payload: { service } })
  const { result, steps } = await client.waitForExecution({ execution_id })
  const failures = steps.find(({ name }) => name === 'ask')?.failures
  console.log(`${service}: ${JSON.stringify(result)} after ${failures} failures`)
  console.log(`  called: ${calls.join(', ')}`)
}

await pod.stop()

/* It prints:
flaky: "a price of flaky" after 2 failures
  called: book keeping, flaky, flaky, flaky
down: "a price of the other, for ask: down answered 500" after 3 failures
  called: book keeping, down, down, down, the other
closed: "a price of the other, for ask: closed answered 403" after 1 failures
  called: book keeping, closed, the other
*/
