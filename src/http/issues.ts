import { z } from 'zod'
import type { Issue } from '../errors.ts'
import { didYouMean } from '../kernel/words.ts'

type ZodIssue = z.core.$ZodIssue

/** What zod found, in our words: each names the field, and says what it must be. */
export function issuesOf(schema: z.ZodType, issues: readonly ZodIssue[], base: PropertyKey[] = []): Issue[] {
  return issues.flatMap((issue) => {
    const path = [...base, ...issue.path]
    if (issue.code === 'unrecognized_keys') {
      const fields = fieldsAt(schema, path)
      return issue.keys.map((key) => ({
        at: spell([...path, key]),
        message: `is not a field of this request.${didYouMean(key.slice(0, 50), fields)}`,
      }))
    }
    if (issue.code === 'invalid_union') {
      // The branch whose own type fits says more than "none of these".
      const branch = issue.errors.find((errors) => errors.every(liesDeeper))
      if (branch !== undefined && branch.length > 0) return issuesOf(schema, branch, path)
    }
    return [{ at: spell(path), message: issue.message }]
  })
}

const liesDeeper = (issue: ZodIssue) => issue.path.length > 0 || issue.code === 'unrecognized_keys'

const spell = (path: PropertyKey[]) => path.map((part) => String(part).slice(0, 100)).join('.')

/** Names of the fields that an object at this path of the schema may have; none where it is no object. */
function fieldsAt(schema: z.ZodType, path: PropertyKey[]): string[] {
  let here: unknown = schema
  for (const part of [...path, undefined]) {
    while (here instanceof z.ZodOptional || here instanceof z.ZodDefault) here = here.unwrap()
    if (part === undefined) break
    if (here instanceof z.ZodArray) here = here.element
    else if (here instanceof z.ZodObject) here = here.shape[String(part)]
  }
  return here instanceof z.ZodObject ? Object.keys(here.shape) : []
}

/** For zod: one sentence for each way a value can be wrong. */
export function sentence(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      if (issue.input === undefined) return 'is missing'
      return `must be ${EXPECTED[issue.expected] ?? issue.expected}, not ${kindOf(issue.input)}`
    case 'invalid_value':
      return `must be one of ${issue.values.map(String).join(', ')}`
    case 'too_small':
      if (issue.origin === 'string') return issue.minimum === 1 ? 'must not be empty' : undefined
      if (issue.origin === 'array') return `must hold at least ${issue.minimum}`
      return `must be at least ${issue.minimum}`
    case 'too_big':
      if (issue.origin === 'string') return `must have at most ${issue.maximum} characters`
      if (issue.origin === 'array') return `must hold at most ${issue.maximum}`
      return `must be at most ${issue.maximum}`
    default:
      return undefined
  }
}

const EXPECTED: Record<string, string> = {
  string: 'a string',
  number: 'a number',
  int: 'an integer',
  boolean: 'true or false',
  array: 'an array',
  object: 'an object',
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'number') return Number.isInteger(value) ? 'an integer' : String(value)
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
