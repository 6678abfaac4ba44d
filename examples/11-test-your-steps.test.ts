/** Tests of your own: a handler alone, and a pod on a Postgres that goes away again. For node --test. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { defineStep, NonRetryableError } from 'fleet-q'
import { runStep, startTestFleet } from 'fleet-q/testing'
import { z } from 'zod'

const Input = z.object({ to: z.string() })
const ship = defineStep('ship', { input: Input, backoff: { base_ms: 1 } }, ({ to }, ctx) => {
  if (to === '') throw new NonRetryableError('there is no address')
  if (ctx.attempt === 1) throw new Error('no van is free')
  return { to, attempts: ctx.attempt }
})

test('without an address it fails for good', async () => {
  await assert.rejects(runStep(ship, { to: '' }), NonRetryableError)
})

test('the second attempt ships', async () => {
  assert.deepEqual(await runStep(ship, { to: 'Ada' }, { attempt: 2 }), { to: 'Ada', attempts: 2 })
})

const fleet = await startTestFleet({ steps: [ship] })
after(() => fleet.stop())

test('on a fleet it is tried again, and ships', async () => {
  const { step_id } = await fleet.client.submitStep({ type: 'ship', args: { to: 'Ada' } })
  const { status, result } = await fleet.client.waitFor(step_id)
  assert.equal(status, 'completed')
  assert.deepEqual(result, { to: 'Ada', attempts: 2 })
})
