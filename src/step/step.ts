import { createHash, randomBytes } from 'node:crypto'
import type { Backoff } from '../kernel/backoff.ts'

/** What a client asks for; the schema at the door has checked it. */
export interface StepWish {
  type: string
  args: Record<string, unknown>
  metadata?: Record<string, unknown> | undefined
  priority: number
  max_retries: number
  run_at?: string | undefined
  delay_seconds?: number | undefined
  timeout_seconds?: number | undefined
  retry?: Partial<Backoff> | undefined
  key?: string | undefined
  unique?: { key: string; on_conflict: 'reject' | 'return' | 'replace' } | undefined
  expires_at?: string | undefined
  tags?: string[] | undefined
  idempotency_key?: string | undefined
}

/** Where a step lies. `held`: something else than the clock moves it on, an event or another step. */
export const TRAYS = ['ready', 'later', 'held', 'claimed', 'settled'] as const
export type Tray = (typeof TRAYS)[number]

export const OUTCOMES = ['completed', 'failed', 'cancelled', 'skipped'] as const
export type Outcome = (typeof OUTCOMES)[number]

/** As the fleet door names it: a step's status is its tray. */
export type StepStatus = 'pending' | 'claimed' | Outcome

/** How a step is found: by its key, and by the chance that makes the id unguessable. */
export interface StepKey {
  id: string
  salt: string
}

const SALT_WIDTH = 12
const SALT_RANGE = 2n ** 60n

/** Drawn for many steps at once: a call for each was a tenth of a submit. */
const CHANCE_BYTES = 4096
let chance = Buffer.alloc(0)
let chanceUsed = 0

export function newSalt(): string {
  if (chanceUsed >= chance.length) {
    chance = randomBytes(CHANCE_BYTES)
    chanceUsed = 0
  }
  const salt = chance.readBigUInt64BE(chanceUsed) % SALT_RANGE
  chanceUsed += 8
  return salt.toString()
}

/** Steps of one batch have one time: to spell it for each took as long as the rest of their ids. */
let lastSecond = { atMs: Number.NaN, text: '' }

/** step_<UTC second>_<chance><key>; fleet_q.step_public_id spells the same in SQL. */
export function publicId(step: { id: string; salt: string; createdAt: Date }): string {
  const atMs = step.createdAt.getTime()
  if (atMs !== lastSecond.atMs)
    lastSecond = { atMs, text: step.createdAt.toISOString().slice(0, 19).replaceAll(/\D/g, '') }
  return `step_${lastSecond.text}_${BigInt(step.salt).toString(36).padStart(SALT_WIDTH, '0')}${BigInt(step.id).toString(36)}`
}

/** Undefined for what cannot be the id of a step. */
export function parsePublicId(text: string): StepKey | undefined {
  const match = /^step_\d{14}_([0-9a-z]{12})([0-9a-z]{1,13})$/.exec(text)
  if (!match?.[1] || !match[2]) return undefined
  const salt = fromBase36(match[1])
  const id = fromBase36(match[2])
  return id > 2n ** 63n - 1n || salt >= SALT_RANGE ? undefined : { id: id.toString(), salt: salt.toString() }
}

const fromBase36 = (text: string): bigint =>
  Array.from(text).reduce((total, digit) => total * 36n + BigInt(Number.parseInt(digit, 36)), 0n)

/** Stable for every attempt of a step, for handlers that call services outside. */
export function idempotencyKey(stepId: string): string {
  const digest = createHash('sha256').update(stepId).digest('hex')
  return `idem_${stepId.slice(stepId.lastIndexOf('_') + 1)}_${digest.slice(0, 8)}`
}

/** The same for bodies that mean the same, whatever the order of their fields. */
export function wishHash(wishes: StepWish[]): Buffer {
  const plain = wishes.map(({ idempotency_key: _, ...wish }) => wish)
  return createHash('sha256').update(canonicalJson(plain)).digest()
}

function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
  return `{${fields.map(([name, field]) => `${JSON.stringify(name)}:${canonicalJson(field)}`).join(',')}}`
}

/** A pod that died under a step this often is taken for the step's work. */
export const POISON_AFTER = 3
