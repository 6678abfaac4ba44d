import { repeatOnConflict, type Database, type Sql } from '../db/connect.ts'
import { inOurWords, sqlState } from '../db/failure.ts'
import { FleetError } from '../errors.ts'
import { batcher } from '../kernel/batch.ts'
import { pass } from '../kernel/failpoint.ts'
import { refuseTwins, resolveUnique, uniqueKeysInOrder } from './resolve-unique.ts'
import { parsePublicId, publicId, wishHash, type StepWish } from './step.ts'
import {
  findIdempotencyKey,
  findLanes,
  giveUniqueKey,
  insertSteps,
  nameStepsOfKey,
  takeExecutionName,
  takeIdempotencyKey,
  writeRerun,
  type NewStep,
} from './submit.sql.ts'
import { shareClaim } from './transact.sql.ts'
import { toNewStep, type As } from './new-step.ts'
import { findStepIds } from './read.sql.ts'
import { lockLetters } from './wake.sql.ts'

export interface Submitted {
  stepIds: string[]
  /** The key was known: these steps are from the first time. */
  replayed: boolean
}

export interface Submitter {
  /** Answers when the steps are committed, never before. All of them are, or none. */
  submit(wishes: StepWish[], idempotencyKey?: string, more?: As): Promise<Submitted>
}

export interface SubmitterOptions {
  database: Database
  /** Of one connection: what is sent on it runs in its order. */
  shared: Database
  /** Behind an insert of steps of these types that was just sent. */
  callBehind(sql: Sql, types: string[], inserted: Promise<unknown>): void
  /** After the commit, with the types that now have work. `called`: callBehind was asked before. */
  onSubmitted(types: string[], called: boolean): void
  /** A step is due in so many milliseconds. */
  onDueIn?(ms: number): void
  /** Steps with a unique key were replaced: a pod may hold them. */
  onReplaced(): void
}

const LANES_REMEMBERED_MAX = 10_000
const BATCH_MAX = 500

export function createSubmitter({
  database,
  shared,
  callBehind,
  onSubmitted,
  onReplaced,
  onDueIn,
}: SubmitterOptions): Submitter {
  const lanes = new Map<string, number>()

  /** Plain steps of all callers share inserts; the answer still means committed. */
  const insertShared = batcher<StepWish, string>({
    batchMax: BATCH_MAX,
    flush: (wishes) => shared.run((sql) => insert(sql, wishes, callBehind)),
    // What Postgres refuses of one caller must not fail the others.
    alone: (error) => /^2[23]/.test(sqlState(error) ?? ''),
  })

  async function insert(sql: Sql, wishes: StepWish[], behind?: typeof callBehind): Promise<string[]> {
    const laneIds = await learnLanes(sql, wishes)
    const written = write(
      sql,
      wishes.map((wish, i) => toNewStep(wish, laneIds[i])),
    )
    behind?.(
      sql,
      wishes.map((wish) => wish.type),
      written,
    )
    return written
  }

  /** The public ids, in the order of the steps. Of a transaction that is rolled back after all, it costs a look. */
  async function write(sql: Sql, steps: NewStep[]): Promise<string[]> {
    if (steps.length === 0) return []
    const held = pass('submit.before')
    if (held) await held
    // Sent now: what is to run behind it is sent next.
    const rows = await insertSteps(sql, steps).execute()
    const met = pass('submit.after')
    if (met) await met
    const createdAt = new Date(rows[0]?.created_at ?? '')
    for (const { due_ms } of rows) if (due_ms !== null && due_ms > 0) onDueIn?.(due_ms)
    return rows.map(({ id }, i) => publicId({ id, salt: steps[i]?.salt ?? '', createdAt }))
  }

  /**
   * The lane of each step. Lanes are never deleted while pods run, so what is known stays true. Never inside a
   * transaction: a lane that was learned in one that is rolled back is not there, and what were put into it later would
   * never be claimed.
   */
  async function learnLanes(sql: Sql, wishes: StepWish[]): Promise<(number | undefined)[]> {
    const names = wishes.map(laneName)
    if (names.every((name) => lanes.has(name))) return names.map((name) => lanes.get(name))
    const unknown = new Map<string, StepWish>()
    for (const [i, wish] of wishes.entries())
      if (!lanes.has(names[i] ?? '')) unknown.set(names[i] ?? '', wish)
    // In one order everywhere: two callers that create the same lanes crosswise would deadlock.
    const sorted = [...unknown].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, wish]) => wish)
    const found = await findLanes(
      sql,
      sorted.map(({ type, priority, key = '' }) => ({ type, priority, key })),
    )
    const known = lanes.size + found.length > LANES_REMEMBERED_MAX ? new Map(lanes) : lanes
    if (known !== lanes) lanes.clear()
    for (const lane of found) {
      lanes.set(laneName(lane), lane.id)
      known.set(laneName(lane), lane.id)
    }
    return names.map((name) => known.get(name))
  }

  /** In one transaction: the key, the unique keys, the steps. */
  async function insertGuarded(
    tx: Sql,
    wishes: StepWish[],
    key: string | undefined,
    laneIds: (number | undefined)[],
    { parent, name, rerunOf }: As,
  ): Promise<Submitted & { replaced: boolean }> {
    // A cancel locks the letter as well: it sees this child, or this sees the cancel.
    if (parent) await lockLetters(tx, [parent.id], [])
    if (parent && (await shareClaim(tx, parent.claimId, parent.id)).length === 0)
      throw new FleetError('wrong_state', 'This attempt is over: it submits nothing any more.')
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
    const written = await write(
      tx,
      fresh.map((wish, n) => toNewStep(wish, laneIds[places[n] ?? -1], parent)),
    )
    for (const [n, stepId] of written.entries()) {
      stepIds[places[n] ?? -1] = stepId
      const unique = fresh[n]?.unique
      if (unique) await giveUniqueKey(tx, unique.key, keyOf(stepId))
    }
    const [first] = stepIds
    if (
      name !== undefined &&
      first !== undefined &&
      (await takeExecutionName(tx, name, keyOf(first))).length === 0
    )
      throw new FleetError('name_taken', `There is an execution "${name}" already.`)
    if (rerunOf !== undefined && first !== undefined) await writeRerun(tx, keyOf(first), rerunOf)
    if (key !== undefined) await nameStepsOfKey(tx, key, stepIds.map(keyOf))
    return { stepIds, replayed: false, replaced }
  }

  async function submitGuarded(wishes: StepWish[], key: string | undefined, as: As): Promise<Submitted> {
    refuseTwins(wishes)
    const laneIds = await database.run((sql) => learnLanes(sql, wishes))
    // A replaced step and a bulk cancel may still meet crosswise.
    const { replaced, ...submitted } = await repeatOnConflict(() =>
      database.begin((tx) => insertGuarded(tx, wishes, key, laneIds, as)),
    )
    if (replaced) onReplaced()
    return submitted
  }

  return {
    async submit(wishes, idempotencyKey, as = {}) {
      try {
        const key = idempotencyKey ?? (wishes.length === 1 ? wishes[0]?.idempotency_key : undefined)
        const guarded =
          as.parent !== undefined ||
          as.name !== undefined ||
          as.rerunOf !== undefined ||
          key !== undefined ||
          wishes.some((wish) => wish.unique)
        const [only] = wishes
        const isShared = !guarded && wishes.length === 1
        const submitted =
          isShared && only
            ? { stepIds: [await insertShared(only)], replayed: false }
            : guarded
              ? await submitGuarded(wishes, key, as)
              : { stepIds: await database.run((sql) => insert(sql, wishes)), replayed: false }
        const met = pass('submit.committed')
        if (met) await met
        if (!submitted.replayed)
          onSubmitted(
            only && wishes.length === 1 ? [only.type] : [...new Set(wishes.map((wish) => wish.type))],
            isShared,
          )
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
