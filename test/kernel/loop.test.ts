import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loop } from '../../src/kernel/loop.ts'
import { until } from '../support/until.ts'

test('a loop runs at once, again when it is rung, and never over itself', async () => {
  let runs = 0
  let inside = 0
  const each = loop({
    name: 'test',
    everyMs: 3_600_000,
    async run() {
      inside++
      assert.equal(inside, 1)
      await new Promise((resolve) => setImmediate(resolve))
      runs++
      inside--
    },
  })
  each.start()
  await until('the first run', () => runs === 1)
  each.ring()
  each.ring()
  await until('the second run', () => runs >= 2)
  await each.stop()
  const seen = runs
  each.ring()
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(runs, seen)
})

test('a ring during a run is not lost', async () => {
  let runs = 0
  let release: () => void = () => {}
  const each = loop({
    name: 'test',
    everyMs: 3_600_000,
    run: () =>
      new Promise((resolve) => {
        runs++
        release = resolve
      }),
  })
  each.start()
  each.ring()
  release()
  await until('the run that was rung for', () => runs === 2)
  release()
  await each.stop()
})

test('a run that fails is told, tried again, and does not end the loop', async () => {
  const errors: unknown[] = []
  let runs = 0
  const each = loop({
    name: 'test',
    everyMs: 3_600_000,
    failedMs: 1,
    failedMaxMs: 2,
    async run() {
      await Promise.resolve()
      if (++runs < 4) throw new Error(`run ${runs}`)
    },
    onError: (error) => errors.push(error),
  })
  each.start()
  await until('a run that succeeds', () => runs === 4)
  assert.equal(errors.length, 3)
  await until('its age', () => each.lastSuccessAgeMs() !== undefined)
  await each.stop()
})
