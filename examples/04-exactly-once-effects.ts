/** What a handler writes through ctx.tx() is committed together with its step, or not at all. */
import { createPod, defineStep } from 'fleet-q'
import { createClient } from 'fleet-q/client'
import { z } from 'zod'

const deposit = defineStep('deposit', { input: z.object({ cents: z.int() }) }, async ({ cents }, ctx) => {
  // Fetch and compute first; open the transaction late.
  const tx = await ctx.tx()
  await tx`create table if not exists ledger (step_id text, attempt int, cents int)`
  await tx`insert into ledger values (${ctx.stepId}, ${ctx.attempt}, ${cents})`
  if (ctx.attempt < 3) throw new Error('something breaks after the write')
  const rows = await tx`select attempt from ledger where step_id = ${ctx.stepId}`
  return { written_by_attempts: rows.map((row) => row['attempt']) }
})

const { DATABASE_URL } = process.env
const pod = await createPod({
  steps: [deposit],
  silent: true,
  settings: { DATABASE_URL, FLEET_Q_API_PORT: '0' },
})
const client = createClient({ baseUrl: `http://127.0.0.1:${pod.address.port}` })

const { step_id } = await client.submitStep({ type: 'deposit', args: { cents: 500 }, retry: { base_ms: 10 } })
const { status, result } = await client.waitFor(step_id)
console.log(status, result)

await pod.stop()

/* It prints:
completed { written_by_attempts: [ 3 ] }
*/
