/** The order and its step are there together, or neither is. Whatever speaks to Postgres can do this. */
import { defineStep } from 'fleet-q'
import { startTestFleet } from 'fleet-q/testing'
import postgres from 'postgres'
import { z } from 'zod'

const ship = defineStep('ship', { input: z.object({ order: z.string() }) }, ({ order }) => ({
  shipped: order,
}))

const { DATABASE_URL } = process.env
const fleet = await startTestFleet({ steps: [ship], ...(DATABASE_URL ? { databaseUrl: DATABASE_URL } : {}) })
const sql = postgres(fleet.databaseUrl, { max: 1, onnotice: () => {} })
await sql`create table if not exists example_orders (id text primary key)`

async function place(order: string, fails: boolean): Promise<string> {
  const id = await sql.begin(async (tx) => {
    await tx`insert into example_orders values (${order})`
    const args = JSON.stringify({ order })
    const [row] = await tx`select fleet_q.submit('ship', ${args}::text::jsonb, key => ${order}) as step_id`
    if (fails) throw new Error('the customer changed her mind')
    return String(row?.['step_id'])
  })
  await sql`select fleet_q.wake()` // after the commit
  return id
}

async function count(order: string): Promise<string> {
  const orders = await sql`select from example_orders where id = ${order}`
  const { steps } = await fleet.client.listSteps({ key: order })
  return `${orders.length} orders, ${steps.length} steps`
}

const kept = crypto.randomUUID()
const step = await place(kept, false)
console.log((await fleet.client.waitFor(step)).status, await count(kept))

const regretted = crypto.randomUUID()
await place(regretted, true).catch((error: Error) => console.log('rolled back:', error.message))
console.log(await count(regretted))

await sql.end()
await fleet.stop()

/* It prints:
completed 1 orders, 1 steps
rolled back: the customer changed her mind
0 orders, 0 steps
*/
