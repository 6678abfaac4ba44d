import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { silentLog } from '../../src/kernel/log.ts'
import type { ClaimedStep } from '../../src/step/claim.sql.ts'
import { defineStep, type StepDefinition } from '../../src/step/handler.ts'
import { createCheckpoints } from '../../src/execution/checkpoints.ts'
import { createNotes } from '../../src/worker/notes.ts'
import { createRegistry } from '../../src/worker/registry.ts'
import { currentAuthor } from '../../src/worker/run-attempt.ts'
import { createSlots } from '../../src/worker/slots.ts'
import { testDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'

const { database } = await testDatabase()

const step = (n: number, type: string): ClaimedStep => ({
  kind: 'claimed',
  claim_id: '1',
  step_id: String(n),
  attempt: 1,
  lane_id: 1,
  position: String(n),
  salt: '1',
  created_at: '2026-01-01 00:00:00+00',
  type,
  priority: 0,
  args: {},
  metadata: null,
  max_retries: 0,
  timeout_ms: null,
  retry: null,
  tags: null,
  expired: null,
  fresh: true,
  has_parent: null,
})

function arrange(definition: StepDefinition, onEnd: (step: ClaimedStep) => void) {
  return createSlots({
    capacity: 2,
    registry: createRegistry([{ definition }]),
    database,
    podId: '1',
    notes: createNotes(database, silentLog()),
    stepTimeoutMs: 60_000,
    executions: {
      transactions: database,
      checkpoints: createCheckpoints(database, '1'),
      submitChildren: () => Promise.reject(new Error('not here')),
    },
    onEnd,
    onRelieved() {},
  })
}

test('what follows an attempt is nobody\u2019s: an exception in the next exchange is not blamed on its step', async () => {
  const handlers = [
    () => 1,
    async () => sleep(1),
    () => Promise.reject(new Error('no')),
    () => assert.fail('no'),
  ]
  for (const handler of handlers) {
    const authors: unknown[] = []
    const inside: (string | undefined)[] = []
    const definition = defineStep('any', {}, () => {
      inside.push(currentAuthor.getStore()?.key)
      return handler()
    })
    const slots = arrange(definition, () => authors.push(currentAuthor.getStore()))
    slots.put([step(1, 'any'), step(2, 'any'), step(3, 'any')])
    await until('three to end', () => authors.length === 3)
    assert.deepEqual(inside, ['1', '2', '3'])
    assert.deepEqual(authors, [undefined, undefined, undefined])
  }
})

test('the line is served in order, two at a time, and tells how long its first has waited', async () => {
  const order: number[] = []
  let open: () => void = () => {}
  const gate = new Promise<void>((resolve) => (open = resolve))
  const slots = arrange(
    defineStep('any', {}, () => gate),
    (ended) => order.push(Number(ended.step_id)),
  )
  slots.put([1, 2, 3, 4, 5].map((n) => step(n, 'any')))
  assert.deepEqual([slots.running, slots.waiting], [2, 3])
  await sleep(20)
  assert.ok(slots.waitMs() >= 15)
  assert.deepEqual(
    slots.takeBack('excess').map(({ step_id }) => step_id),
    ['3', '4', '5'],
  )
  assert.equal(slots.waitMs(), 0)
  open()
  await until('those that ran to end', () => order.length === 2)
  assert.deepEqual(order, [1, 2])
})
