/** Months of a subscription in a test of a second: the fleet's clock is moved, not waited for. For node --test. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { defineStep, EventTimeout } from 'fleet-q'
import { startTestFleet } from 'fleet-q/testing'
import { z } from 'zod'

/** Stands for a bank that knows the keys it has seen. */
const charges = new Map<string, string>()

const Leaving = z.object({ why: z.string() })

const Plan = z.object({ plan: z.string() })
const subscription = defineStep('subscription', { input: Plan }, async ({ plan }, ctx) => {
  for (let month = 1; ; month++) {
    const key = `${ctx.idempotencyKey} ${month}`
    await ctx.run('charge', () => void charges.set(key, `${plan} ${month}`), { retry: { max: 5 } })
    try {
      const { why } = await ctx.waitForEvent('cancelled-by-user', { schema: Leaving, timeout: '30 days' })
      return { months: month, why }
    } catch (error) {
      if (!(error instanceof EventTimeout)) throw error
    }
  }
})

const fleet = await startTestFleet({ steps: [subscription] })
after(() => fleet.stop())

test('it is charged once a month, until its user leaves', async () => {
  const execution = await fleet.start('subscription', { plan: 'gold' }, { id: 'sub-1' })
  const asleep = await execution.untilAsleep()
  assert.deepEqual(asleep.waitingFor, ['cancelled-by-user'])
  assert.deepEqual([...charges.values()], ['gold 1'])

  for (let month = 2; month <= 4; month++) await execution.skipSleep()
  assert.deepEqual([...charges.values()], ['gold 1', 'gold 2', 'gold 3', 'gold 4'])

  await execution.send('cancelled-by-user', { why: 'too dear' })
  assert.deepEqual(await execution.result(), { months: 4, why: 'too dear' })
})

test('a user who leaves within the month is charged for that month alone', async () => {
  charges.clear()
  const execution = await fleet.start('subscription', { plan: 'silver' }, { id: 'sub-2' })
  await execution.untilAsleep()
  await fleet.advance('29 days')
  await execution.send('cancelled-by-user', { why: 'moving' })
  assert.deepEqual(await execution.result(), { months: 1, why: 'moving' })
  assert.deepEqual([...charges.values()], ['silver 1'])
})
