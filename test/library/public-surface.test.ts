import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as client from 'fleet-q/client'
import * as library from 'fleet-q'
import * as testing from 'fleet-q/testing'

/**
 * The names that a user may import are a promise: a name that goes breaks somebody, a name that comes stays. Change
 * these lists only together with CHANGELOG.md.
 */

const SURFACE = {
  'fleet-q': {
    module: library,
    file: 'src/index.ts',
    values: [
      'ChildFailed',
      'EventTimeout',
      'FleetError',
      'NonRetryableError',
      'RunFailed',
      'cancel',
      'createPod',
      'defineStep',
      'retry',
      'runPod',
      'snooze',
    ],
    types: [
      'Child',
      'ChildWish',
      'Children',
      'Duration',
      'ErrorCode',
      'Issue',
      'Pod',
      'PodSettings',
      'RunContext',
      'RunOptions',
      'StepContext',
      'StepDefinition',
      'StepLog',
      'StepOptions',
      'WaitOptions',
    ],
  },
  'fleet-q/client': {
    module: client,
    file: 'src/client.ts',
    values: ['FleetQError', 'createClient'],
    types: ['CallOptions', 'Client', 'ClientOptions', 'WaitOptions'],
  },
  'fleet-q/testing': {
    module: testing,
    file: 'src/testing.ts',
    values: ['ExecutionFailed', 'runStep', 'startTestFleet', 'stepContext'],
    types: ['AtRest', 'RunOptions', 'StartOptions', 'TestExecution', 'TestFleet'],
  },
}

/** Names of types are gone when the code runs: they are read from the source of the entry, which lists or holds them. */
function typesOf(file: string): string[] {
  const text = readFileSync(file, 'utf8')
  const declared = [...text.matchAll(/^export (?:interface|type) (\w+)/gm)].map(([, name = '']) => name)
  const lists = [...text.matchAll(/^export (type )?\{([^}]*)\}/gm)].flatMap(([, all, list = '']) =>
    list
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== '' && (all !== undefined || name.startsWith('type ')))
      .map((name) => name.replace(/^type /, '')),
  )
  return [...declared, ...lists].toSorted()
}

for (const [name, { module, file, values, types }] of Object.entries(SURFACE))
  test(`${name} exports exactly these names`, () => {
    assert.deepEqual(Object.keys(module).toSorted(), values)
    assert.deepEqual(typesOf(file), types)
  })

test('the operations of the typed client are those of openapi.json', () => {
  const document = JSON.parse(readFileSync('openapi.json', 'utf8')) as {
    paths: Record<string, Record<string, { operationId: string }>>
  }
  const operations = Object.values(document.paths)
    .flatMap((methods) => Object.values(methods))
    .map(({ operationId }) => operationId)
  const { waitFor, ...methods } = client.createClient({ baseUrl: 'http://localhost' })
  assert.equal(typeof waitFor, 'function')
  assert.deepEqual(Object.keys(methods).toSorted(), operations.toSorted())
})

test('the client takes nothing of Node, so that it can go anywhere', () => {
  const seen = new Set(['src/client.ts'])
  for (const path of seen)
    for (const [, target = ''] of readFileSync(path, 'utf8').matchAll(/^import (?!type)[^'\n]*'([^']+)'/gm)) {
      assert.doesNotMatch(target, /^node:/, `${path} imports ${target}`)
      if (target.startsWith('.')) seen.add(new URL(target, `file:///${path}`).pathname.slice(1))
    }
  assert.ok(seen.size > 3)
})
