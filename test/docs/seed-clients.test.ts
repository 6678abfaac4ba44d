import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { demoSteps } from '../../src/worker/builtin/demo.ts'
import { testDatabase } from '../support/database.ts'
import { get } from '../support/http.ts'
import { startTestPod } from '../support/pods.ts'
import { until } from '../support/until.ts'
import { execute } from './page.ts'
import { NO_PYTHON, pythonWithHttpx } from './programs.ts'

/** The two clients that were written before this queue was: they are the contract, and run as they stand. */

const THEIRS = 'http://localhost:8000'
const HASHES = {
  'test/docs/seed-client.js': 'bfb24c8983edeb2ef9ede0a89fb30943c0e409954a83855ca4bea74f02ea1be6',
  'test/docs/seed-client.py': '0cf5c8861f0cc075e1629b53ed8ca7f842236382fb1fc79e779236ad925e6af6',
}

const db = await testDatabase()
const pod = await startTestPod(
  db.url,
  demoSteps.map(({ definition }) => definition).filter(({ isolation }) => isolation === 'none'),
)
await until('the pod to lead', async () => (await get(pod.url, '/health')).body['is_leader'] === true)

test('neither client has been touched', () => {
  for (const [path, hash] of Object.entries(HASHES))
    assert.equal(createHash('sha256').update(readFileSync(path)).digest('hex'), hash, path)
})

test('the JavaScript client works as it stands', async (t) => {
  const answers: { asked: string; status: number; body: Record<string, unknown> }[] = []
  const { fetch } = globalThis
  t.after(() => {
    globalThis.fetch = fetch
  })
  globalThis.fetch = async (input, init) => {
    assert.ok(typeof input === 'string' && input.startsWith(THEIRS))
    const response = await fetch(input.replace(THEIRS, pod.url), init)
    answers.push({
      asked: `${init?.method ?? 'GET'} ${input.slice(THEIRS.length)}`,
      status: response.status,
      body: (await response.clone().json()) as Record<string, unknown>,
    })
    return response
  }
  const client = './seed-client.js'
  await import(client)
  const [submitted, looked] = answers
  const stepId = String(submitted?.body['step_id'])
  assert.deepEqual(
    answers.map(({ asked, status }) => `${asked} ${status}`),
    ['POST /submit 201', `GET /status/${stepId} 200`],
  )
  assert.deepEqual(looked?.body['payload'], {
    type: 'data_processing',
    args: { file: 'data.csv' },
    metadata: {},
  })
})

if (pythonWithHttpx === undefined)
  test(`the Python client: NOT RUN, ${NO_PYTHON}`, (t) => t.diagnostic(NO_PYTHON))
else
  test('the Python client works as it stands', async () => {
    const files = ['test/docs/seed-client.driver.py', 'test/docs/seed-client.py']
    const printed = await execute(pythonWithHttpx ?? '', files, { POD_URL: pod.url })
    assert.match(printed, /works/)
  })
