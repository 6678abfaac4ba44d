import { AsyncLocalStorage } from 'node:async_hooks'
import type { Sql } from '../db/connect.ts'
import { backoffMs, DEFAULT_BACKOFF } from '../kernel/backoff.ts'
import { describeError, isNonRetryable, json } from '../step/describe.ts'
import {
  EventTimeout,
  RunFailed,
  type ChildWish,
  type Durable,
  type RunContext,
  type RunOptions,
  type WaitOptions,
} from '../step/durable.ts'
import { NonRetryableError } from '../step/handler.ts'
import { createChildren } from './children.ts'
import { createAsking } from './asked.ts'
import { asJson, valueOf } from './result.ts'
import { instantOf, msOf } from './spans.ts'
import { runInTransaction, type TransactionParts } from './run-in-transaction.ts'
import { failureOf, undoAll, type Undo, type Undone } from './undo.ts'
import { createMemory, type Doing, type Done, type Memory, type MemoryOptions } from './memory.ts'

/** What all executions of a pod share. */
export interface ExecutionParts extends TransactionParts {
  /** Once for each place in an execution, however often it is called: all of them, or none. */
  submitChildren(
    parent: { id: string; claimId: string },
    place: { name: string; number: number },
    wishes: ChildWish[],
  ): Promise<string[]>
}

/** The attempt that it is for. */
export interface AttemptOptions extends Omit<MemoryOptions, 'checkpoints'> {
  limitMs: number
}

export interface Execution {
  readonly ctx: Durable
  readonly memory: Memory
  /** Of a failure that no further attempt can change: what it failed of is remembered, and more follows from it. */
  isFinal(error: unknown): Promise<boolean>
  /** What is not done yet, or has failed, and nobody awaits it. */
  unheeded(): { error: unknown } | undefined
  /** Something is to be undone should it fail. */
  readonly hasUndos: boolean
  /** That it has failed for good: its next attempt undoes. */
  fail(error: string | null): Promise<void>
  undo(): Promise<Undone | undefined>
}

/** Which body runs, and of which execution. */
const body = new AsyncLocalStorage<{ memory: Memory; of: string }>()

/** What a handler asks of its memory, in the words of ctx. */
export function openExecution(parts: ExecutionParts, options: AttemptOptions): Execution {
  const { checkpoints } = parts
  const { stepId, claimId, signal } = options
  const memory = createMemory({ ...options, checkpoints })
  /** Which checkpoint a failure came from. */
  const failedAt = new WeakMap<Error, { name: string; number: number }>()
  const undos: Undo[] = []
  const asking = createAsking(
    (words) => new NonRetryableError(`the handler returned before ctx.${words} was done: nobody awaits it`),
  )

  /** Everything that is asked of ctx, in its own words. */
  function ask<T>(words: string, what: () => Promise<T>): Promise<T> {
    const inside = body.getStore()
    return asking.ask(
      words,
      inside?.memory === memory ? Promise.reject(new NestedInBody(words, inside.of)) : what(),
    )
  }

  async function run<T>(
    name: string,
    work: (context: RunContext & { tx?: Sql }) => T | Promise<T>,
    runOptions: RunOptions & { tx?: true } = {},
  ): Promise<T> {
    const within = (context: RunContext & { tx?: Sql }) =>
      body.run({ memory, of: `ctx.run("${name}")` }, () => work(context))
    const { value, error, ask } = await memory.once(name, 'run', (doing) =>
      tryBody(
        doing,
        (attempt) =>
          runOptions.tx
            ? runInTransaction(parts, options, doing, (tx) => within({ attempt, signal, tx }))
            : plainly(() => within({ attempt, signal })),
        runOptions,
      ),
    )
    if (!error) return value as T
    const failed = new RunFailed(name, error.class, error.message)
    failedAt.set(failed, ask)
    throw failed
  }

  async function tryBody(
    { ask, open, stand, readSinceMs }: Doing,
    tryOnce: (attempt: number) => Promise<Done>,
    { retry }: RunOptions,
  ): Promise<Done> {
    const backoff = { ...DEFAULT_BACKOFF, ...retry }
    let failures = ask.remembered?.failures ?? 0
    if (ask.remembered?.due_ms) await stand(ask.remembered.due_ms - readSinceMs(), false)
    for (;;) {
      try {
        return { failures, ...(await tryOnce(failures + 1)) }
      } catch (error) {
        // It stopped because it was told to: that is no failure of its.
        signal.throwIfAborted()
        failures++
        const { stack: _, ...told } = describeError(error)
        const described = json(told)
        if (isNonRetryable(error) || failures > (retry?.max ?? 0)) return { error: described, failures }
        const delayMs = backoffMs(backoff, failures, Math.random())
        await open({ failures, error: described, delayMs })
        await stand(delayMs, false)
      }
    }
  }

  async function sleepFor(name: string, time: { delayMs: number } | { dueAt: string }): Promise<void> {
    await memory.once(name, 'sleep', async ({ ask, open, stand, readSinceMs }) => {
      const dueMs = ask.remembered
        ? (ask.remembered.due_ms ?? 0) - readSinceMs()
        : ((await open(time)).due_ms ?? 0)
      if (dueMs > 0) await stand(dueMs, false)
      return {}
    })
  }

  async function waitForEvent(name: string, { timeout, schema }: WaitOptions = {}): Promise<unknown> {
    const { value, error } = await memory.once(name, 'event', async ({ ask, open, stand, readSinceMs }) => {
      let limitMs = ask.remembered?.due_ms == null ? null : ask.remembered.due_ms - readSinceMs()
      if (!ask.remembered)
        limitMs = (await open({ delayMs: timeout === undefined ? null : msOf(timeout) })).due_ms
      const came = await answered(ask, () => stand(limitMs, true))
      // What the event brought stands there already.
      return came ? { value: came.result } : { error: json({ class: 'EventTimeout', message: name }) }
    })
    if (error) throw new EventTimeout(name)
    if (!schema) return value
    const parsed = schema.safeParse(value)
    if (parsed.success) return parsed.data
    throw new NonRetryableError(
      `event "${name}" does not fit: ${parsed.error.issues.map(({ path, message }) => `${path.map(String).join('.')}: ${message}`).join('; ')}`,
    )
  }

  /** What has come for it already, comes before the wait is over, or came at its last moment. */
  async function answered(ask: Doing['ask'], stand: () => ReturnType<Doing['stand']>) {
    if (ask.remembered?.arrived) return ask.remembered
    const there = ask.remembered ? undefined : await arrival(ask)
    return there ?? (await stand()) ?? (await arrival(ask))
  }

  async function arrival({ name, number }: Doing['ask']) {
    const rows = await checkpoints.answer(stepId)
    return rows.find((row) => row.arrived && row.name === name && row.number === number)
  }

  const children = createChildren({
    memory,
    checkpoints,
    submit: (place, wishes) => parts.submitChildren({ id: stepId, claimId }, place, wishes),
    answered,
    ask,
  })

  async function version(name: string, newest: number): Promise<number> {
    const made = async () => ({ result: JSON.stringify(newest), value: newest })
    const { value } = await memory.once(name, 'version', made, { value: 1 })
    return Number(value)
  }

  async function onFailure(name: string, undo: Undo['undo'], undoOptions: RunOptions = {}) {
    const { ask: at } = await memory.once(name, 'undo', async () => ({}))
    const within = (context: RunContext) =>
      body.run({ memory, of: `ctx.onFailure("${name}")` }, () => undo(context))
    undos.push({ name, number: at.number, undo: within, options: undoOptions })
  }

  async function now() {
    const { value } = await memory.once('$now', 'now', async () => ({}))
    return value instanceof Date ? value : new Date(String(value))
  }

  async function random() {
    const drawn = async () => {
      const value = Math.random()
      return { result: JSON.stringify(value), value }
    }
    return Number((await memory.once('$random', 'random', drawn)).value)
  }

  const ctx: Durable = {
    run: <T>(
      name: string,
      work: (context: RunContext & { tx: Sql }) => T | Promise<T>,
      how?: RunOptions & { tx?: true },
    ) =>
      // Who asks for no tx does not look at it.
      ask(`run("${name}")`, () => run(name, work as (context: RunContext & { tx?: Sql }) => T, how)),
    sleep: (name, duration) =>
      ask(`sleep("${name}")`, async () => sleepFor(name, { delayMs: msOf(duration) })),
    sleepUntil: (name, when) =>
      ask(`sleepUntil("${name}")`, async () => sleepFor(name, { dueAt: instantOf(when) })),
    waitForEvent: (name: string, how?: WaitOptions) =>
      ask(`waitForEvent("${name}")`, () => waitForEvent(name, how)),
    ...children,
    onFailure: (name, undo, how) => ask(`onFailure("${name}")`, () => onFailure(name, undo, how)),
    now: () => ask('now()', now),
    random: () => ask('random()', random),
    version: (name, newest) => ask(`version("${name}")`, () => version(name, newest)),
  }

  return {
    ctx,
    memory,
    get hasUndos() {
      return undos.length > 0
    },
    async fail(error) {
      await checkpoints.write(failureOf(options, memory.takeTurn(), error, true))
    },
    undo: () => undoAll(memory, undos),
    unheeded: () => asking.unheeded(),
    async isFinal(error) {
      const place = error instanceof Error ? failedAt.get(error) : undefined
      return place !== undefined && !(await checkpoints.forgetFailure({ stepId, claimId, ...place }))
    },
  }
}

/** Its effects are its own: where the pod dies before the checkpoint is written, it runs again. */
async function plainly(body: () => unknown): Promise<Done> {
  const result = asJson(await body())
  return { result, value: valueOf(result) }
}

class NestedInBody extends NonRetryableError {
  constructor(words: string, outer: string) {
    super(
      `ctx.${words} is asked for inside of the body of ${outer}: a body runs again as a whole, and nothing in it is remembered by itself. Ask before it, or after it.`,
    )
  }
}
