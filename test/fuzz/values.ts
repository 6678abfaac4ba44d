import fc from 'fast-check'
import { resolve, typesOf, type Schema, type Type } from './contract.ts'

/** Values that fit a schema of openapi.json. */
export function valueOf(of: Schema, depth = 0): fc.Arbitrary<unknown> {
  const schema = resolve(of)
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map((branch) => valueOf(branch, depth)))
  if (schema.enum) return fc.constantFrom(...schema.enum)
  if ('const' in schema) return fc.constant(schema.const)
  const types = typesOf(schema)
  return types.length === 0
    ? fc.jsonValue({ maxDepth: 2 })
    : fc.oneof(...types.map((type) => valueOfType(type, schema, depth)))
}

function valueOfType(type: Type, schema: Schema, depth: number): fc.Arbitrary<unknown> {
  switch (type) {
    case 'object':
      return objectOf(schema, depth)
    case 'array':
      return fc.array(valueOf(schema.items ?? {}, depth + 1), {
        minLength: schema.minItems ?? 0,
        maxLength: Math.min(schema.maxItems ?? 5, 5),
      })
    case 'string':
      return textOf(schema)
    case 'integer':
      return fc.oneof(edgesOf(schema), fc.integer(boundsOf(schema)))
    case 'number':
      return fc.oneof(edgesOf(schema), fc.double({ ...boundsOf(schema), noNaN: true }))
    case 'boolean':
      return fc.boolean()
    default:
      return fc.constant(null)
  }
}

/** Few names, so that requests meet: the same type, key and tag again and again. */
const NAMES = fc.constantFrom(
  'echo',
  'fails',
  'a',
  'b',
  'mail:daily',
  'constructor',
  'toString',
  'valueOf',
  '0',
)

function objectOf(schema: Schema, depth: number): fc.Arbitrary<unknown> {
  const { properties = {}, required = [] } = schema
  if (Object.keys(properties).length > 0 || depth > 3) {
    const all = fc.record(
      Object.fromEntries(Object.entries(properties).map(([name, each]) => [name, valueOf(each, depth + 1)])),
    )
    // Of all at once two would contradict each other nearly always.
    const optional = Object.keys(properties).filter((name) => !required.includes(name))
    const some = fc.subarray(optional, { maxLength: Math.min(3, optional.length) })
    return fc
      .tuple(all, some)
      .map(([object, kept]) =>
        Object.fromEntries(
          Object.entries(object).filter(([name]) => required.includes(name) || kept.includes(name)),
        ),
      )
  }
  return fc.dictionary(fc.string({ maxLength: 10 }), fc.jsonValue({ maxDepth: 2 }), { maxKeys: 4 })
}

function textOf(schema: Schema): fc.Arbitrary<string> {
  const { minLength = 0, maxLength = 30, pattern, format } = schema
  const fits = (text: string) => text.length >= minLength && text.length <= maxLength
  if (format === 'date-time')
    return fc
      .date({ min: new Date('1970-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
      .map((date) => date.toISOString())
  if (pattern !== undefined) return fc.oneof({ weight: 4, arbitrary: NAMES }, matching(pattern).filter(fits))
  return fc.oneof(
    { weight: 3, arbitrary: NAMES.filter(fits) },
    fc.string({ minLength, maxLength: Math.min(maxLength, 40), unit: 'grapheme' }).filter(fits),
    fc.constant('x'.repeat(maxLength)),
  )
}

/** fast-check does not draw by what must not follow. */
const matching = (pattern: string) =>
  pattern.includes('(?!')
    ? fc.string({ maxLength: 40 }).filter((text) => new RegExp(pattern).test(text))
    : fc.stringMatching(new RegExp(pattern))

const boundsOf = ({ minimum = -1e9, maximum = 1e9 }: Schema) => ({ min: minimum, max: maximum })

const edgesOf = (schema: Schema) => {
  const { min, max } = boundsOf(schema)
  return fc.constantFrom(min, max)
}
