import { z } from 'zod'
import type { Issue } from '../errors.ts'
import { didYouMean } from '../kernel/words.ts'

type ZodIssue = z.core.$ZodIssue

/** So many are told; the others are counted. */
export const ISSUES_MAX = 50
const UNTOLD: Issue = { at: '', message: 'not told: there are too many' }

/**
 * What zod found, in our words: each names the field, and says what it must be. Words are found for those alone that are
 * told: for each of the 60,000 strange keys that a batch can have they took 1 s, in which the pod did nothing else.
 */
export function issuesOf(schema: z.ZodType, issues: readonly ZodIssue[]): Issue[] {
  const found: Issue[] = []

  function visit(some: readonly ZodIssue[], base: PropertyKey[]): void {
    for (const issue of some) {
      const path = [...base, ...issue.path]
      if (issue.code === 'unrecognized_keys') {
        const told = issue.keys.slice(0, Math.max(ISSUES_MAX - found.length, 0))
        const fields = told.length > 0 ? fieldsAt(schema, path) : []
        for (const key of told)
          found.push({
            at: spell([...path, key]),
            message: `is not a field of this request.${didYouMean(key.slice(0, 50), fields)}`,
          })
        for (let i = told.length; i < issue.keys.length; i++) found.push(UNTOLD)
        continue
      }
      // The branch whose own type fits says more than "none of these".
      const branch =
        issue.code === 'invalid_union' ? issue.errors.find((errors) => errors.every(liesDeeper)) : undefined
      if (branch !== undefined && branch.length > 0) visit(branch, path)
      else found.push(found.length < ISSUES_MAX ? { at: spell(path), message: issue.message } : UNTOLD)
    }
  }

  visit(issues, [])
  return found
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
      return `must be ${issue.values.length === 1 ? '' : 'one of '}${issue.values.map(String).join(', ')}`
    case 'too_small':
      if (issue.origin === 'string') return issue.minimum === 1 ? 'must not be empty' : undefined
      if (issue.origin === 'array') return `must hold at least ${issue.minimum}`
      return `must be at least ${issue.minimum}`
    case 'too_big':
      if (issue.origin === 'string') return `must have at most ${issue.maximum} characters`
      if (issue.origin === 'array') return `must hold at most ${issue.maximum}`
      return `must be at most ${issue.maximum}`
    case 'unrecognized_keys':
      // Never told: issuesOf names each key. Zod's own sentence would name them all at once.
      return ''
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
