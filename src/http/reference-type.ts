import { html } from 'hono/html'

export type Html = ReturnType<typeof html>

/** What the page reads of a schema in openapi.json. */
export interface Schema {
  $ref?: string
  type?: string | string[]
  format?: string
  enum?: string[]
  const?: unknown
  anyOf?: Schema[]
  items?: Schema
  properties?: Record<string, Schema>
  additionalProperties?: Schema | boolean
  required?: string[]
  default?: unknown
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  description?: string
  examples?: unknown[]
}

export function resolve(schema: Schema, schemas: Record<string, Schema>): Schema {
  const name = schema.$ref?.split('/').at(-1)
  return name === undefined ? schema : (schemas[name] ?? schema)
}

/** A type in words, with links to the schemas that have a name. */
export function typeOf(schema: Schema): Html | string {
  const name = schema.$ref?.split('/').at(-1)
  if (name !== undefined) return html`<a href="#schema-${name}">${name}</a>`
  if (schema.enum) return schema.enum.join(', ')
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  if (schema.anyOf) return html`${schema.anyOf.map((one, i) => html`${i > 0 ? ' or ' : ''}${typeOf(one)}`)}`
  if (schema.items) return html`array of ${typeOf(schema.items)}`
  if (schema.properties)
    return html`{
    ${Object.entries(schema.properties).map(([key, one], i) => html`${i > 0 ? ', ' : ''}${key}: ${typeOf(one)}`)}
    }`
  if (typeof schema.additionalProperties === 'object')
    return html`object of ${typeOf(schema.additionalProperties)}`
  if (schema.format === 'date-time') return 'time'
  const plain = [schema.type ?? 'any'].flat().join(' or ')
  return `${plain}${boundsOf(schema)}`
}

function boundsOf({ minimum, maximum, minLength, maxLength }: Schema): string {
  if (maxLength !== undefined) return `, ${minLength ?? 0} to ${maxLength} characters`
  if (minimum !== undefined && maximum !== undefined) return `, ${minimum} to ${maximum}`
  return minimum === undefined || minimum === 0 ? '' : `, at least ${minimum}`
}
