import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createClient } from '../../src/client.ts'
import { defineStep } from '../../src/step/handler.ts'
import { testDatabase } from '../support/database.ts'
import { submit } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'

const db = await testDatabase()
const pod = await startTestPod(db.url, [
  defineStep('works', {}, () => 1),
  defineStep('fails', {}, () => {
    throw new Error('no luck')
  }),
  defineStep('waits', {}, (_, ctx) => ctx.waitForEvent('never')),
])
const client = createClient({ baseUrl: pod.url })

interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

/** As a scraper reads it: what does not fit the format is an error. */
async function scrape(): Promise<{ samples: Sample[]; types: Map<string, string> }> {
  const answer = await fetch(`${pod.url}/metrics`)
  assert.equal(answer.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
  const types = new Map<string, string>()
  const samples: Sample[] = []
  for (const line of (await answer.text()).trimEnd().split('\n')) {
    const type = /^# TYPE (\w+) (gauge|counter|histogram)$/.exec(line)
    if (type) {
      assert.equal(types.has(type[1] ?? ''), false, `${type[1]} is told twice`)
      types.set(type[1] ?? '', type[2] ?? '')
    }
    if (line.startsWith('# ')) continue
    const sample = /^([a-z_]+)(?:\{(.*)\})? (-?[\d.e+-]+)$/.exec(line)
    assert.ok(sample, `no sample: ${line}`)
    const labels = [...(sample[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)]
    samples.push({
      name: sample[1] ?? '',
      labels: Object.fromEntries(labels.map(([, label = '', value = '']) => [label, value])),
      value: Number(sample[3]),
    })
  }
  return { samples, types }
}

const valueOf = ({ samples }: { samples: Sample[] }, name: string, labels: Record<string, string> = {}) =>
  samples.find(
    (sample) =>
      sample.name === name &&
      Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  )?.value

test('a scrape tells what the pod took, how it ended, how long it ran, and what holds no slot', async () => {
  for (const type of ['works', 'works', 'fails']) await submit(pod.url, { type, max_retries: 0 })
  await client.startExecution({ execution_id: 'waits', task_name: 'waits' })
  const page = await until('all to have ended', async () => {
    const now = await scrape()
    const held = valueOf(now, 'fleet_q_executions_held', { type: 'waits', why: 'wait' })
    const failed = valueOf(now, 'fleet_q_ended_total', { type: 'fails', ended: 'failed' })
    return held === 1 && failed === 1 && now
  })
  assert.equal(valueOf(page, 'fleet_q_claimed_total'), 4)
  assert.equal(valueOf(page, 'fleet_q_ended_total', { type: 'works', ended: 'completed' }), 2)
  assert.equal(valueOf(page, 'fleet_q_ended_total', { type: 'waits', ended: 'suspended' }), 1)
  assert.equal(valueOf(page, 'fleet_q_refused_total'), 0)
  assert.equal(valueOf(page, 'fleet_q_attempt_seconds_count', { type: 'works' }), 2)
  assert.ok((valueOf(page, 'fleet_q_http_seconds_count', { operation: 'submitStep' }) ?? 0) >= 3)
  assert.ok((valueOf(page, 'fleet_q_exchange_seconds_count', { kind: 'claim' }) ?? 0) >= 1)
  for (const pool of ['work', 'door', 'submits'])
    assert.ok(valueOf(page, 'fleet_q_database_calls', { pool }) !== undefined)
})

test('what lies ready longest is told by type, and by none that has been tried', async () => {
  await submit(pod.url, { type: 'handled-nowhere' })
  const seconds = await until('it to be told', async () =>
    valueOf(await scrape(), 'fleet_q_oldest_ready_seconds', { type: 'handled-nowhere' }),
  )
  assert.ok(seconds > 0 && seconds < 60)
})

test('histograms add up: buckets grow, and the last one is the count', async () => {
  const { samples, types } = await scrape()
  const histograms = [...types].filter(([, type]) => type === 'histogram').map(([name]) => name)
  assert.deepEqual(histograms.toSorted(), [
    'fleet_q_attempt_seconds',
    'fleet_q_exchange_seconds',
    'fleet_q_http_seconds',
    'fleet_q_recovery_seconds',
  ])
  for (const name of histograms)
    for (const { labels, value } of samples.filter((sample) => sample.name === `${name}_count`)) {
      const buckets = samples.filter(
        (sample) =>
          sample.name === `${name}_bucket` &&
          Object.entries(labels).every(([label, mine]) => sample.labels[label] === mine),
      )
      const values = buckets.map((bucket) => bucket.value)
      assert.deepEqual(
        values,
        values.toSorted((a, b) => a - b),
      )
      assert.equal(buckets.at(-1)?.labels['le'], '+Inf')
      assert.equal(values.at(-1), value)
    }
})
