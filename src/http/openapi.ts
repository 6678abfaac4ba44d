import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import type { ErrorCode } from '../errors.ts'
import { Problem } from '../kernel/contract.ts'
import type { Spec } from './endpoint.ts'
import { STATUS } from './problem.ts'
import { specs as allSpecs } from './specs.ts'

type Schema = Record<string, unknown>

/** What every operation can answer, beside the failures of its spec. */
const COMMON: readonly ErrorCode[] = ['rate_limited', 'internal_error', 'database_error']
const GUARDED: readonly ErrorCode[] = ['unauthenticated', 'permission_denied', 'database_unavailable']

const DOORS: Record<Spec['door'], string> = {
  fleet: 'Submit steps, see what becomes of them, and run the fleet',
  executions: 'Durable executions',
  tasks: 'Tasks on a schedule',
  jobs: 'Jobs of tasks that depend on each other',
  scheduler: 'Templates, schedules and the queue',
}

/** OpenAPI 3.1 from the specs, by zod alone: schemas with an id become components. */
export function openApiDocument(version: string, specs: readonly Spec[] = Object.values(allSpecs)) {
  const components: Record<string, unknown> = {}
  const schema = (type: z.ZodType, io: 'input' | 'output') => schemaOf(type, io, components)
  const problem = { 'application/json': { schema: schema(Problem, 'output') } }
  const paths: Record<string, Schema> = {}
  for (const spec of specs) {
    paths[spec.path] ??= {}
    Object.assign(paths[spec.path] ?? {}, { [spec.method.toLowerCase()]: operation(spec, schema, problem) })
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Fleet-Q',
      version,
      summary: 'A step queue for a fleet of pods, on Postgres alone.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    security: [{ bearer: [] }],
    tags: [...new Set(specs.map(({ door }) => door))].map((name) => ({ name, description: DOORS[name] })),
    paths,
    components: {
      schemas: Object.fromEntries(Object.entries(components).toSorted(([a], [b]) => (a < b ? -1 : 1))),
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } },
    },
  }
}

function operation(
  spec: Spec,
  schema: (type: z.ZodType, io: 'input' | 'output') => Schema,
  problem: Schema,
): Schema {
  const parameters = [
    ...parametersOf('path', spec.params, schema),
    ...parametersOf('query', spec.query, schema),
    ...(spec.idempotent ? [IDEMPOTENCY_KEY] : []),
  ]
  const ok = { 'application/json': { schema: schema(spec.ok, 'output') } }
  const statuses = [spec.status, ...(spec.alsoStatus ?? [])]
  return {
    operationId: spec.name,
    summary: spec.summary,
    tags: [spec.door],
    'x-role': spec.role,
    ...(spec.role === 'public' && { security: [] }),
    ...(parameters.length > 0 && { parameters }),
    ...(spec.body && {
      requestBody: {
        required: spec.bodyOptional !== true,
        content: { 'application/json': { schema: schema(spec.body, 'input') } },
      },
    }),
    responses: {
      ...Object.fromEntries(
        statuses.map((status) => [
          status,
          { description: DESCRIPTIONS[status], ...(status !== 204 && { content: ok }) },
        ]),
      ),
      ...failuresOf(spec, problem),
    },
  }
}

const DESCRIPTIONS = {
  200: 'Done',
  201: 'Created',
  202: 'Accepted',
  204: 'Done, and nothing to tell',
  503: 'Not now',
} satisfies Record<Spec['status'], string>

const IDEMPOTENCY_KEY = {
  name: 'Idempotency-Key',
  in: 'header',
  description: 'the same as idempotency_key in the body',
  schema: { type: 'string', minLength: 1, maxLength: 255 },
}

function parametersOf(
  where: 'path' | 'query',
  object: z.ZodObject | undefined,
  schema: (type: z.ZodType, io: 'input' | 'output') => Schema,
): Schema[] {
  return Object.entries<z.ZodType>(object?.shape ?? {}).map(([name, field]) => {
    const { description, ...rest } = schema(field, 'input')
    return {
      name,
      in: where,
      ...(where === 'path' && { required: true }),
      ...(description !== undefined && { description }),
      schema: rest,
    }
  })
}

/** Codes that share a status are named together. */
function failuresOf(spec: Spec, content: Schema): Schema {
  const takes: ErrorCode[] = spec.body ? ['invalid_input', 'body_too_large', 'not_json'] : ['invalid_input']
  const codes = [...takes, ...(spec.role === 'public' ? [] : GUARDED), ...spec.failures, ...COMMON]
  const responses: Record<string, { description: string; content: Schema }> = {}
  for (const code of codes) {
    const { status } = STATUS[code]
    const same = responses[status]
    responses[status] = { description: same ? `${same.description}, ${code}` : code, content }
  }
  return responses
}

/** A schema of JSON: its components put aside, what only zod needs to know left out. */
function schemaOf(type: z.ZodType, io: 'input' | 'output', components: Record<string, unknown>): Schema {
  const override = ({ zodSchema, jsonSchema }: { zodSchema: z.core.$ZodType; jsonSchema: Schema }) => {
    tidy(jsonSchema, io)
    restore(jsonSchema, zodSchema)
  }
  const text = JSON.stringify(z.toJSONSchema(type, { io, unrepresentable: 'any', override }))
  const {
    $schema: _,
    $defs = {},
    ...own
  }: Schema = JSON.parse(text.replaceAll('#/$defs/', '#/components/schemas/'))
  for (const [id, component] of Object.entries($defs ?? {})) {
    const known = components[id]
    if (known !== undefined && !isDeepStrictEqual(known, component))
      throw new Error(`Component ${id} is one thing in a request and another in an answer`)
    components[id] = component
  }
  return own
}

function tidy(schema: Schema, io: 'input' | 'output'): void {
  // It repeats the format, in 270 characters.
  if (schema['format'] === 'date-time') delete schema['pattern']
  // The bounds of a safe integer are no bounds of ours.
  if (schema['maximum'] === Number.MAX_SAFE_INTEGER) delete schema['maximum']
  if (schema['minimum'] === Number.MIN_SAFE_INTEGER) delete schema['minimum']
  // An answer may grow: who reads it must not stumble over a new field.
  if (io === 'output' && schema['additionalProperties'] === false) delete schema['additionalProperties']
}

/** Where something is transformed zod leaves these two out of the input's form; ours are written in that form. */
function restore(schema: Schema, type: z.core.$ZodType): void {
  const { examples } = z.globalRegistry.get(type) ?? {}
  if (examples !== undefined) schema['examples'] ??= examples
  if (type instanceof z.ZodDefault) schema['default'] ??= type.def.defaultValue
}
