import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Turns Kubernetes' OpenAPI document into what kubeconform reads: one JSON Schema per kind, complete in
 * itself and strict (a field that Kubernetes does not know is an error). Run by .ci/build-chart-tools:
 *
 *   node --import tsx test/chart/schemas.ts <swagger.json> <folder>
 */

interface Schema {
  type?: string
  format?: string
  $ref?: string
  enum?: unknown[]
  properties?: Record<string, Schema>
  items?: Schema
  additionalProperties?: Schema | boolean
  required?: string[]
  'x-kubernetes-group-version-kind'?: { group: string; version: string; kind: string }[]
}

const PREFIX = '#/definitions/'

/** Only the words that decide; most of the document's 4 MB are descriptions and extensions of its own. */
function strict(name: string, schema: Schema): Record<string, unknown> {
  // Two types that the document calls strings although a plain number is welcome.
  if (schema.format === 'int-or-string' || name.endsWith('.Quantity')) return { type: ['string', 'number'] }
  const { type, $ref, enum: words, properties, items, additionalProperties, required } = schema
  if ($ref) return { $ref }
  return {
    ...(type && { type }),
    ...(words && { enum: words }),
    ...(required && { required }),
    ...(items && { items: strict('', items) }),
    ...(properties && {
      properties: Object.fromEntries(
        Object.entries(properties).map(([key, value]) => [key, strict('', value)]),
      ),
      additionalProperties: false,
    }),
    ...(typeof additionalProperties === 'object' && {
      additionalProperties: strict('', additionalProperties),
    }),
  }
}

/** Every definition that one of them needs, itself included. */
function closure(root: string, definitions: Map<string, Record<string, unknown>>): Record<string, unknown> {
  const found: Record<string, unknown> = {}
  const open = [root]
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    if (name in found) continue
    found[name] = definitions.get(name)
    for (const [, next] of JSON.stringify(found[name]).matchAll(/"\$ref":"#\/definitions\/([^"]+)"/g))
      if (next !== undefined) open.push(next)
  }
  return found
}

const [source, target] = process.argv.slice(2)
if (source === undefined || target === undefined) throw new Error('usage: schemas.ts <swagger.json> <folder>')

const document: { definitions: Record<string, Schema> } = JSON.parse(readFileSync(source, 'utf8'))
const definitions = new Map(
  Object.entries(document.definitions).map(([name, schema]) => [name, strict(name, schema)]),
)

mkdirSync(target, { recursive: true })
for (const [name, schema] of Object.entries(document.definitions)) {
  const kinds = schema['x-kubernetes-group-version-kind'] ?? []
  // More than one: not an object of its own but a body that many share, such as DeleteOptions.
  const [only] = kinds
  if (only === undefined || kinds.length > 1) continue
  const { group, version, kind } = only
  // The file name kubeconform looks for: kind, first word of the group, version.
  const file = [kind, group.split('.')[0], version].filter(Boolean).join('-').toLowerCase()
  const body = { $ref: PREFIX + name, definitions: closure(name, definitions) }
  writeFileSync(join(target, `${file}.json`), JSON.stringify(body))
}
