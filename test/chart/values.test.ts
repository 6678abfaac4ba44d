import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { specs } from '../../src/http/specs.ts'
import { CHART, ROOT, settings } from './chart.ts'

/** What the chart's files say of each other and of the project; no tool is needed. */

/** Settings that the chart gives by itself, or that make no sense in a cluster. */
const NOT_IN_CONFIG = [
  'DATABASE_URL',
  'FLEET_Q_DATA_DIR',
  'FLEET_Q_API_HOST',
  'FLEET_Q_API_PORT',
  'FLEET_Q_TOKEN',
  'FLEET_Q_TOKENS',
  'FLEET_Q_INSECURE',
  'FLEET_Q_POD_NAME',
  'FLEET_Q_COMMANDS',
]

interface Schema {
  $ref?: string
  properties?: Record<string, Schema>
  allOf?: Schema[]
  definitions?: Record<string, Schema>
}

const read = (...path: string[]) => readFileSync(join(...path), 'utf8')
const schema: Schema = JSON.parse(read(CHART, 'values.schema.json'))

function resolved(part: Schema): Schema {
  if (part.allOf?.[0]) return resolved(part.allOf[0])
  if (part.$ref === undefined) return part
  const [, ...path] = part.$ref.split('/')
  return resolved(path.reduce<Schema>((found, key) => Reflect.get(found, key), schema))
}

/** `image.tag` and so on: every value that can be set. */
function leaves(part: Schema, path: string[] = []): string[] {
  const { properties } = resolved(part)
  if (!properties) return [path.join('.')]
  return Object.entries(properties).flatMap(([key, value]) => leaves(value, [...path, key]))
}

test('the README lists every value, and no other', () => {
  const listed = [...read(CHART, 'README.md').matchAll(/^\| `([\w.]+)`/gm)].map(([, name]) => name ?? '')
  // `global` is Helm's own: it passes that to every chart inside another.
  const known = leaves(schema).filter((name) => name !== 'global')
  assert.deepEqual(listed.toSorted(), known.toSorted())
})

test('config has every setting of src/config.ts that the chart does not give by itself', () => {
  const keys = leaves(schema.definitions?.['config'] ?? {})
  const names = keys.map((key) => `FLEET_Q_${key.replaceAll(/[A-Z]/g, '_$&').toUpperCase()}`)
  assert.deepEqual([...names, ...NOT_IN_CONFIG].toSorted(), settings.toSorted())
})

test('what the chart asks the pods for is there, for everybody or for a viewer', () => {
  const templates = join(CHART, 'templates')
  const asked = readdirSync(templates, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.yaml') || name.endsWith('.tpl'))
    .flatMap((name) => [...read(templates, name).matchAll(/path: (\/\w+)|}}(\/admin\/\w+)/g)])
    .map(([, probe, other]) => probe ?? other ?? '')
  const served = Object.values(specs).filter(({ role }) => role === 'public' || role === 'viewer')
  const paths = new Set<string>(served.map(({ path }) => path))
  assert.deepEqual([...new Set(asked)].toSorted(), ['/admin/scale', '/health', '/metrics', '/readyz'])
  // Prometheus' text is not one of the JSON answers that the table is about.
  for (const path of asked.filter((one) => one !== '/metrics'))
    assert.ok(paths.has(path), `${path} is not in the table of endpoints`)
})

test("the chart installs this release's version", () => {
  const { version }: { version: string } = JSON.parse(read(ROOT, 'package.json'))
  assert.ok(
    read(CHART, 'Chart.yaml').includes(`\nappVersion: "${version}"\n`),
    `appVersion is not ${version}`,
  )
})
