import { resolve, typesOf, type Schema, type Type } from './contract.ts'

const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/

/** Where a value differs from its schema, in words; undefined where it fits. Knows the words that openapi.json uses. */
export function misfit(value: unknown, of: Schema, at = ''): string | undefined {
  const schema = resolve(of)
  const here = at === '' ? 'the body' : at
  if (schema.anyOf) {
    const misfits = schema.anyOf.map((branch) => misfit(value, branch, at))
    return misfits.includes(undefined) ? undefined : misfits.join('; or ')
  }
  if (schema.enum && !schema.enum.includes(value)) return `${here} is ${show(value)}, none of the enum`
  if ('const' in schema && schema.const !== value) return `${here} is ${show(value)}, not the const`
  const types = typesOf(schema)
  if (types.length > 0 && !types.some((type) => isOfType(value, type)))
    return `${here} is ${show(value)}, not of type ${types.join(' or ')}`
  if (typeof value === 'string') return textMisfit(value, schema, here)
  if (typeof value === 'number') return numberMisfit(value, schema, here)
  if (Array.isArray(value)) {
    if (value.length > (schema.maxItems ?? Infinity)) return `${here} holds ${value.length}`
    return firstOf(value.map((item, i) => () => misfit(item, schema.items ?? {}, `${at}[${i}]`)))
  }
  if (typeof value === 'object' && value !== null) return objectMisfit(value, schema, at, here)
  return undefined
}

function objectMisfit(value: object, schema: Schema, at: string, here: string): string | undefined {
  const missing = schema.required?.find((name) => !Object.hasOwn(value, name))
  if (missing !== undefined) return `${here} has no ${missing}`
  const { properties = {}, additionalProperties = true } = schema
  return firstOf(
    Object.entries(value).map(([name, item]) => () => {
      const known = Object.hasOwn(properties, name) ? properties[name] : undefined
      if (known) return misfit(item, known, `${at}.${name}`)
      if (additionalProperties === true) return undefined
      return additionalProperties === false
        ? `${here} has ${name}, which is not described`
        : misfit(item, additionalProperties, `${at}.${name}`)
    }),
  )
}

function textMisfit(value: string, schema: Schema, here: string): string | undefined {
  if (value.length < (schema.minLength ?? 0) || value.length > (schema.maxLength ?? Infinity))
    return `${here} has ${value.length} characters`
  if (schema.pattern !== undefined && !new RegExp(schema.pattern).test(value))
    return `${here} is ${show(value)}, against its pattern`
  if (schema.format === 'date-time' && !INSTANT.test(value)) return `${here} is ${show(value)}, no time`
  return undefined
}

function numberMisfit(value: number, schema: Schema, here: string): string | undefined {
  const { minimum = -Infinity, maximum = Infinity } = schema
  return value < minimum || value > maximum ? `${here} is ${value}, out of range` : undefined
}

function isOfType(value: unknown, type: Type): boolean {
  if (type === 'null') return value === null
  if (type === 'array') return Array.isArray(value)
  if (type === 'object') return typeof value === 'object' && value !== null && !Array.isArray(value)
  if (type === 'integer') return Number.isInteger(value)
  return typeof value === type
}

function firstOf(looks: (() => string | undefined)[]): string | undefined {
  for (const look of looks) {
    const found = look()
    if (found !== undefined) return found
  }
  return undefined
}

const show = (value: unknown) => (JSON.stringify(value) ?? 'nothing').slice(0, 80)
