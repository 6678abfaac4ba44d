import { repeatOnConflict, type Database, type Sql } from '../db/connect.ts'
import { inOurWords, sqlState } from '../db/failure.ts'
import { FleetError } from '../errors.ts'
import { batcher } from '../kernel/batch.ts'
import { refuseTwins, resolveUnique, uniqueKeysInOrder } from './resolve-unique.ts'
import { newSalt, parsePublicId, publicId, wishHash, type StepWish } from './step.ts'
import {
  findIdempotencyKey,
  findLanes,
  giveUniqueKey,
  insertSteps,
  nameStepsOfKey,
  takeIdempotencyKey,
  type NewStep,
} from './submit.sql.ts'
import { findStepIds } from './read.sql.ts'

export interface Submitted {
  stepIds: string[]
  /** The key was known: these steps are from the first time. */
  replayed: boolean
}

export interface Submitter {
  /** Answers when the steps are committed, never before. All of them are, or none. */
  submit(wishes: StepWish[], idempotencyKey?: string): Promise<Submitted>
}

export interface SubmitterOptions {
  database: Database
  /** Called after the commit, with the types that now have work. */
  onSubmitted(types: string[]): void
  /** A step is due in so many milliseconds. */
  onDueIn?(ms: number): void
  /** Steps with a unique key were replaced: a pod may hold them. */
  onReplaced(): void
}

const LANES_REMEMBERED_MAX = 10_000
const BATCH_MAX = 500

export function createSubmitter({ database, onSubmitted, onReplaced, onDueIn }: SubmitterOptions): Submitter {
  const lanes = new Map<string, number>()

  /** Plain steps of all callers share inserts; the answer still means committed. */
  const insertShared = batcher<StepWish, string>({
    batchMax: BATCH_MAX,
    flush: (wishes) => database.run((sql) => insert(sql, wishes)),
    // What Postgres refuses of one caller must not fail the others.
    alone: (error) => /^2[23]/.test(sqlState(error) ?? ''),
  })

  async function insert(sql: Sql, wishes: StepWish[]): Promise<string[]> {
    const laneIds = await learnLanes(sql, wishes)
    const rows = await insertSteps(
      sql,
      wishes.map((wish) => toNewStep(wish, laneIds)),
    )
    tellDue(rows)
    return rows.map((row) => publicId({ id: row.id, salt: row.salt, createdAt: row.created_at }))
  }

  /** Of a transaction that is rolled back after all, it costs a look. */
  function tellDue(rows: { due_ms: number | null }[]) {
    for (const { due_ms } of rows) if (due_ms !== null && due_ms > 0) onDueIn?.(due_ms)
  }

  /**
   * Lanes are never deleted while pods run, so what is known stays true. Never inside a transaction: a lane that was
   * learned in one that is rolled back is not there, and what were put into it later would never be claimed.
   */
  async function learnLanes(sql: Sql, wishes: StepWish[]): Promise<Map<string, number>> {
    const mine = new Map<string, number>()
    const unknown = new Map<string, StepWish>()
    for (const wish of wishes) {
      const id = lanes.get(laneName(wish))
      if (id === undefined) unknown.set(laneName(wish), wish)
      else mine.set(laneName(wish), id)
    }
    if (unknown.size === 0) return mine
    // In one order everywhere: two callers that create the same lanes crosswise would deadlock.
    const sorted = [...unknown].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, wish]) => wish)
    const found = await findLanes(
      sql,
      sorted.map(({ type, priority, key = '' }) => ({ type, priority, key })),
    )
    if (lanes.size + found.length > LANES_REMEMBERED_MAX) lanes.clear()
    for (const lane of found) {
      lanes.set(laneName(lane), lane.id)
      mine.set(laneName(lane), lane.id)
    }
    return mine
  }

  function toNewStep(wish: StepWish, laneIds: Map<string, number>): NewStep {
    const laneId = laneIds.get(laneName(wish))
    if (laneId === undefined)
      throw new FleetError('internal_error', `the lane of ${wish.type} was not learned`)
    return {
      laneId,
      salt: newSalt(),
      maxRetries: wish.max_retries,
      timeoutMs: wish.timeout_seconds === undefined ? null : Math.round(wish.timeout_seconds * 1000),
      runAt: wish.run_at ?? null,
      delayMs: wish.delay_seconds === undefined ? null : wish.delay_seconds * 1000,
      expiresAt: wish.expires_at ?? null,
      args: JSON.stringify(wish.args),
      metadata: wish.metadata === undefined ? null : JSON.stringify(wish.metadata),
      retry: wish.retry === undefined ? null : JSON.stringify(wish.retry),
      tags: wish.tags === undefined ? null : JSON.stringify(wish.tags),
    }
  }

  /** In one transaction: the key, the unique keys, the steps. */
  async function insertGuarded(
    tx: Sql,
    wishes: StepWish[],
    key: string | undefined,
    laneIds: Map<string, number>,
  ): Promise<Submitted & { replaced: boolean }> {
    if (key !== undefined) {
      const [mine] = await takeIdempotencyKey(tx, key, wishHash(wishes))
      if (!mine) return { ...(await replay(tx, wishes, key)), replaced: false }
    }
    const stepIds: string[] = []
    let replaced = false
    for (const [i, unique] of uniqueKeysInOrder(wishes)) {
      const holder = await resolveUnique(tx, unique)
      if (holder === 'replaced') replaced = true
      else if (holder) stepIds[i] = holder.stepId
    }
    const places = [...wishes.keys()].filter((i) => stepIds[i] === undefined)
    const fresh = wishes.filter((_, i) => stepIds[i] === undefined)
    const rows =
      fresh.length === 0
        ? []
        : await insertSteps(
            tx,
            fresh.map((wish) => toNewStep(wish, laneIds)),
          )
    tellDue(rows)
    for (const [n, row] of rows.entries()) {
      const place = places[n]
      if (place !== undefined)
        stepIds[place] = publicId({ id: row.id, salt: row.salt, createdAt: row.created_at })
      const unique = fresh[n]?.unique
      if (unique) await giveUniqueKey(tx, unique.key, row.id)
    }
    if (key !== undefined) await nameStepsOfKey(tx, key, stepIds.map(keyOf))
    return { stepIds, replayed: false, replaced }
  }

  async function submitGuarded(wishes: StepWish[], key: string | undefined): Promise<Submitted> {
    refuseTwins(wishes)
    const laneIds = await database.run((sql) => learnLanes(sql, wishes))
    // A replaced step and a bulk cancel may still meet crosswise.
    const { replaced, ...submitted } = await repeatOnConflict(() =>
      database.begin((tx) => insertGuarded(tx, wishes, key, laneIds)),
    )
    if (replaced) onReplaced()
    return submitted
  }

  return {
    async submit(wishes, idempotencyKey) {
      try {
        const key = idempotencyKey ?? (wishes.length === 1 ? wishes[0]?.idempotency_key : undefined)
        const guarded = key !== undefined || wishes.some((wish) => wish.unique)
        const [only] = wishes
        const submitted =
          !guarded && only && wishes.length === 1
            ? { stepIds: [await insertShared(only)], replayed: false }
            : guarded
              ? await submitGuarded(wishes, key)
              : { stepIds: await database.run((sql) => insert(sql, wishes)), replayed: false }
        if (!submitted.replayed) onSubmitted([...new Set(wishes.map((wish) => wish.type))])
        return submitted
      } catch (error) {
        throw inOurWords(error)
      }
    },
  }
}

const laneName = ({
  type,
  priority,
  key = '',
}: {
  type: string
  priority: number
  key?: string | undefined
}) => `${priority} ${type} ${key}`

function keyOf(stepId: string): string {
  const key = parsePublicId(stepId)
  if (!key) throw new FleetError('internal_error', `${stepId} is not the id of a step`)
  return key.id
}

async function replay(tx: Sql, wishes: StepWish[], key: string): Promise<Submitted> {
  const [first] = await findIdempotencyKey(tx, key)
  if (!first)
    throw new FleetError('database_unavailable', `Idempotency key "${key}" was just given back. Try again.`, {
      retryAfterSeconds: 1,
    })
  if (!first.body_hash.equals(wishHash(wishes)))
    throw new FleetError(
      'idempotency_conflict',
      `Idempotency key "${key}" was used with another body. Use a new key for a new step, or send the first body again.`,
    )
  const found = await findStepIds(tx, first.step_ids)
  return { stepIds: found.map((row) => row.step_id), replayed: true }
}
