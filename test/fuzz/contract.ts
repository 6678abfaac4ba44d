import { readFileSync } from 'node:fs'

export type Type = 'object' | 'array' | 'string' | 'number' | 'integer' | 'boolean' | 'null'

/** openapi.json, as far as a fuzzer needs it: whatever is added to the table of endpoints is attacked by itself. */
export interface Schema {
  $ref?: string
  type?: Type | Type[]
  anyOf?: Schema[]
  enum?: unknown[]
  const?: unknown
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: boolean | Schema
  items?: Schema
  minItems?: number
  maxItems?: number
  minLength?: number
  maxLength?: number
  pattern?: string
  format?: string
  minimum?: number
  maximum?: number
}

export interface Parameter {
  name: string
  in: 'path' | 'query' | 'header'
  required?: boolean
  schema: Schema
}

interface Content {
  content: { 'application/json': { schema: Schema } }
}

export interface Operation {
  operationId: string
  'x-role': string
  parameters?: Parameter[]
  requestBody?: Content & { required: boolean }
  responses: Record<string, Content>
}

export interface Place {
  method: string
  path: string
  operation: Operation
}

interface Document {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Schema> }
}

const { paths, components } = JSON.parse(
  readFileSync(new URL('../../openapi.json', import.meta.url), 'utf8'),
) as Document

export const places: Place[] = Object.entries(paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
)

/** None where a schema leaves it open. */
export const typesOf = ({ type }: Schema): Type[] => (type === undefined ? [] : [type].flat())

/** Served beside the operations, for people and collectors. */
export const PAGES = ['/openapi.json', '/docs', '/docs/style.css', '/metrics']

const patterns = places.map((place) => ({
  place,
  pattern: new RegExp(`^${place.path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`),
}))

/** The place that a request reaches, by its target as it was sent. */
export function placeAt(method: string, target: string): Place | undefined {
  const path = target.replace(/^https?:\/\/[^/?#]+/i, '').replace(/\?.*$/s, '')
  return (
    places.find((place) => place.method === method && place.path === path) ??
    patterns.find(({ place, pattern }) => place.method === method && pattern.test(path))?.place
  )
}

export function resolve(schema: Schema): Schema {
  const name = schema.$ref?.replace('#/components/schemas/', '')
  if (name === undefined) return schema
  const found = components.schemas[name]
  if (!found) throw new Error(`openapi.json has no component ${name}`)
  return resolve(found)
}
