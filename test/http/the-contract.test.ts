import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ROLES } from '../../src/access/role.ts'
import type { Spec } from '../../src/http/endpoint.ts'
import { openApiDocument } from '../../src/http/openapi.ts'
import { specs } from '../../src/http/specs.ts'
import { ALL_TOKENS, bearer, openDoor, TOKENS } from './door.ts'

const root = new URL('../../', import.meta.url)
const read = (name: string) => readFileSync(new URL(name, root), 'utf8')
const { version }: { version: string } = JSON.parse(read('package.json'))
const table = Object.values<Spec>(specs)

interface Operation {
  operationId: string
  'x-role': string
  parameters?: { name: string; in: string }[]
  responses: Record<string, unknown>
}
interface Document {
  openapi: string
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Record<string, unknown>> }
}
const document: Document = JSON.parse(JSON.stringify(openApiDocument(version)))
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
)

test('openapi.json in the repository is the one that the code describes (npm run generate writes it)', () => {
  assert.deepEqual(JSON.parse(read('openapi.json')), document)
})

test('the seeds and their additions are all there, and nothing else', () => {
  assert.deepEqual(operations.map(({ method, path }) => `${method.toUpperCase()} ${path}`).toSorted(), [
    'GET /admin/audit',
    'GET /admin/dead-letters',
    'GET /admin/leader',
    'GET /admin/limits',
    'GET /admin/pauses',
    'GET /admin/pods',
    'GET /admin/queue',
    'GET /admin/recovery',
    'GET /admin/scale',
    'GET /admin/tokens',
    'GET /api/v1/executions',
    'GET /api/v1/executions/{execution_id}',
    'GET /api/v1/executions/{execution_id}/history',
    'GET /api/v1/executions/{execution_id}/wait',
    'GET /api/v1/stats',
    'GET /health',
    'GET /idempotency/{step_id}',
    'GET /readyz',
    'GET /status/{step_id}',
    'GET /steps',
    'GET /steps/{step_id}/logs',
    'GET /why/{step_id}',
    'POST /admin/dead-letters/redrive',
    'POST /admin/dead-letters/{step_id}/redrive',
    'POST /admin/limits',
    'POST /admin/pause',
    'POST /admin/pods/{pod_id}/drain',
    'POST /admin/recovery/run',
    'POST /admin/resume',
    'POST /admin/tokens',
    'POST /admin/tokens/{token_id}/revoke',
    'POST /api/v1/events/{execution_id}/{event_name}',
    'POST /api/v1/executions',
    'POST /api/v1/executions/{execution_id}/cancel',
    'POST /api/v1/executions/{execution_id}/pause',
    'POST /api/v1/executions/{execution_id}/rerun',
    'POST /api/v1/executions/{execution_id}/restart',
    'POST /api/v1/executions/{execution_id}/resume',
    'POST /api/v1/executions/{execution_id}/retry',
    'POST /steps/cancel',
    'POST /steps/retry',
    'POST /steps/{step_id}/cancel',
    'POST /steps/{step_id}/retry',
    'POST /submit',
    'POST /submit/batch',
  ])
})

test('every answer of the seed has the fields that the seed shows', () => {
  const fields: Record<string, string> = {
    Health: 'pod_id status uptime_seconds current_capacity max_capacity is_leader version',
    SubmitAnswer: 'step_id status message',
    StepStatus:
      'step_id status claimed_by last_update_ts retry_count priority created_ts max_retries payload',
    Payload: 'type args metadata',
    IdempotencyAnswer: 'step_id idempotency_key',
    Leader: 'current_leader leader_birth_ts active_pods last_election_check election_details',
    Queue: `pending_steps claimed_steps completed_steps failed_steps active_pods current_leader
      queue_depth_by_priority steps_by_type pod_capacity`,
    RecoveryAnswer: 'status message recovery_summary',
    RecoverySummary: `cycle_id dead_pods_found orphaned_steps_found steps_requeued steps_marked_terminal
      duration_ms dead_pods requeued_steps terminal_steps`,
    Problem: 'detail error error_type timestamp path request_id',
  }
  for (const [name, wanted] of Object.entries(fields)) {
    const required = document.components.schemas[name]?.['required']
    assert.ok(Array.isArray(required), name)
    for (const field of wanted.split(/\s+/)) assert.ok(required.includes(field), `${name}.${field}`)
  }
})

test('every reference leads somewhere, every operation has a name and a role of its own', () => {
  const names = operations.map(({ operation }) => operation.operationId)
  assert.equal(new Set(names).size, names.length)
  assert.deepEqual(names.toSorted(), Object.keys(specs).toSorted())
  for (const [, name] of JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g))
    assert.ok(document.components.schemas[name ?? ''], name)
  assert.doesNotMatch(JSON.stringify(document), /\$schema|\$defs|__schema|9007199254740991/)
  for (const { path, operation } of operations) {
    assert.ok(['public', ...ROLES].includes(operation['x-role']))
    const inPath = operation.parameters?.filter((p) => p.in === 'path').map(({ name }) => `{${name}}`) ?? []
    assert.deepEqual(inPath, path.match(/\{\w+\}/g) ?? [])
    for (const status of ['400', '500'])
      assert.ok(operation.responses[status], `${operation.operationId} ${status}`)
    assert.equal(operation.responses['401'] === undefined, operation['x-role'] === 'public')
  }
})

test('examples of the document are taken by the door', async () => {
  const { send, seen } = openDoor()
  for (const spec of table) {
    const id = /schemas\/(\w+)/.exec(JSON.stringify(bodyOf(spec)))?.[1] ?? ''
    const examples: unknown = document.components.schemas[id]?.['examples']
    for (const example of Array.isArray(examples) ? examples : []) {
      const response = await send(spec.path.replaceAll(/\{\w+\}/g, 'x'), example)
      assert.equal(response.status, spec.status, `${spec.name}: ${await response.text()}`)
    }
  }
  assert.ok(seen.length >= 5)
})

const bodyOf = (spec: Spec) =>
  operations.find(({ operation }) => operation.operationId === spec.name)?.operation

test('no field of an operation stands in two places: the client puts each where it belongs by its name', () => {
  for (const { name, params, query, body, wholeBody } of table) {
    const shapes = [params, query, body].map((schema) =>
      schema && 'shape' in schema ? Object.keys(schema.shape ?? {}) : [],
    )
    const fields = shapes.flat()
    assert.equal(new Set(fields).size, fields.length, name)
    if (body) assert.ok('shape' in body || wholeBody, `${name}: its body is an object, or has a name`)
  }
})

test('the document and the reference page are served to viewers', async () => {
  const { ask } = openDoor({ tokens: ALL_TOKENS, openAccess: false })
  for (const path of ['/openapi.json', '/docs', '/docs/style.css']) {
    assert.equal((await ask('GET', path)).status, 401, path)
    const response = await ask('GET', path, { headers: bearer(TOKENS.viewer) })
    assert.equal(response.status, 200, path)
    assert.equal(response.headers.get('x-content-type-options'), 'nosniff')
    assert.ok(response.headers.get('x-request-id'))
  }
  const open = openDoor()
  const served: unknown = await (await open.ask('GET', '/openapi.json')).json()
  assert.deepEqual(served, JSON.parse(JSON.stringify(openApiDocument('9.9.9'))))
})

test('the reference page shows every operation and schema, and asks for nothing but its own stylesheet', async () => {
  const { ask } = openDoor()
  const response = await ask('GET', '/docs')
  const page = await response.text()
  assert.equal(response.headers.get('content-type'), 'text/html; charset=utf-8')
  assert.match(
    response.headers.get('content-security-policy') ?? '',
    /^default-src 'none'; style-src 'self';/,
  )
  for (const { path, operation } of operations) {
    assert.ok(page.includes(`id="${operation.operationId}"`))
    assert.ok(page.includes(`href="#${operation.operationId}"`))
    const place = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => `$${name.toUpperCase()}`)
    assert.ok(page.includes(`http://localhost:8000${place}`))
  }
  for (const name of Object.keys(document.components.schemas))
    assert.ok(page.includes(`id="schema-${name}"`), name)
  for (const [, target] of page.matchAll(/href="#([\w-]+)"/g))
    assert.ok(page.includes(`id="${target}"`), target)
  assert.deepEqual(
    [...page.matchAll(/(?:src|href)="(?!#)([^"]+)"/g)].map(([, url]) => url),
    ['/docs/style.css', '/openapi.json'],
  )
  assert.doesNotMatch(page, /<script|style="|<style|\son\w+="|undefined|\[object/)
  const style = await (await ask('GET', '/docs/style.css')).text()
  assert.match(style, /prefers-color-scheme: dark/)
  assert.doesNotMatch(style, /url\(|@import/)
})

test('what the client carries into a browser imports nothing of Node', () => {
  const visited = new Set<string>()
  const visit = (file: string) => {
    if (visited.has(file)) return
    visited.add(file)
    for (const [, path] of read(file).matchAll(/^(?:import|export)(?! type)[^;]*? from '([^']+)'/gm)) {
      if (path === 'zod') continue
      assert.ok(path?.startsWith('.'), `${file} imports ${path}`)
      visit(new URL(path ?? '', new URL(file, 'file:///')).pathname.slice(1))
    }
  }
  visit('src/client.ts')
  assert.deepEqual([...visited].toSorted(), [
    'src/access/access.schema.ts',
    'src/access/role.ts',
    'src/client.ts',
    'src/execution/execution.schema.ts',
    'src/http/endpoint.ts',
    'src/http/specs.ts',
    'src/http/specs/executions.ts',
    'src/http/specs/fleet.ts',
    'src/kernel/contract.ts',
    'src/pod/pod.schema.ts',
    'src/recovery/recovery.schema.ts',
    'src/step/step.schema.ts',
  ])
})
