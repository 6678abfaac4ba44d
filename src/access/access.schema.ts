import { z } from 'zod'
import { instant, nextCursor, paging, queryNumber, TEN_YEARS_SECONDS, text } from '../kernel/contract.ts'
import { ROLES } from './role.ts'

const role = z.enum(ROLES)
const tokenId = z.string().regex(/^[1-9]\d{0,8}$/, 'is no number of a token; GET /admin/tokens lists them')

export const tokenPath = z.strictObject({ token_id: tokenId })

export const TokensQuery = z.strictObject({
  show: z.enum(['good', 'all']).default('good').describe('all: also those that are revoked or have run out'),
  limit: queryNumber(z.int().min(1).max(1000)).default(100).describe('at most so many'),
})

const token = {
  token_id: tokenId,
  name: z.string(),
  role,
  created_at: instant,
  created_by: z.string(),
  expires_at: instant.nullable(),
  last_used_at: instant.nullable().describe('to the minute; null: never used'),
  revoked_at: instant.nullable(),
}

export const TokenList = z.strictObject({ tokens: z.array(z.strictObject(token)) }).meta({ id: 'TokenList' })

export const TokenRequest = z
  .strictObject({
    name: text(100).describe('who or what it is for'),
    role,
    expires_in_seconds: z
      .int()
      .min(1)
      .max(TEN_YEARS_SECONDS)
      .nullable()
      .default(null)
      .describe('null: it is good until it is revoked'),
  })
  .meta({ id: 'TokenRequest' })

export const TokenMade = z
  .strictObject({ ...token, token: z.string().describe('keep it: nobody can show it again') })
  .meta({ id: 'TokenMade' })

export const TokenChange = z.strictObject({ ...token, message: z.string() }).meta({ id: 'TokenChange' })

export const AuditQuery = z.strictObject({
  operation: text(100).optional().describe('such as cancelStep'),
  target: text(200).optional().describe('a step, a pod, a type, a token'),
  ...paging,
})

export const AuditList = z
  .strictObject({
    entries: z.array(
      z.strictObject({
        at: instant,
        operation: z.string(),
        target: z.string().nullable(),
        who: z.string(),
        role: z.string(),
        ip: z.string().nullable(),
        request_id: z.string().nullable(),
        details: z.record(z.string(), z.unknown()),
      }),
    ),
    next_cursor: nextCursor,
  })
  .meta({ id: 'AuditList' })
