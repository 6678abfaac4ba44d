import { backoffMs, DEFAULT_BACKOFF } from '../kernel/backoff.ts'
import { parseDuration } from '../kernel/duration.ts'
import { describeError, isNonRetryable, json } from '../step/describe.ts'
import {
  ChildFailed,
  EventTimeout,
  RunFailed,
  type Child,
  type ChildWish,
  type Durable,
  type Duration,
  type RunContext,
  type RunOptions,
  type WaitOptions,
} from '../step/durable.ts'
import { NonRetryableError } from '../step/handler.ts'
import { parsePublicId } from '../step/step.ts'
import { createMemory, type Doing, type Done, type Memory, type MemoryOptions } from './memory.ts'

/** What all executions of a pod share. */
export interface ExecutionParts extends Pick<MemoryOptions, 'checkpoints'> {
  /** Once for each place in an execution, however often it is called. */
  submitChild(
    parent: { id: string; claimId: string },
    place: { name: string; number: number },
    wish: ChildWish,
  ): Promise<string>
}

export interface Execution {
  readonly ctx: Durable
  readonly memory: Memory
  /** Of a failure that no further attempt can change: what it failed of is remembered, and more follows from it. */
  isFinal(error: unknown): Promise<boolean>
}

const RESULT_BYTES_MAX = 1024 * 1024

/** What a handler asks of its memory, in the words of ctx. */
export function openExecution(parts: ExecutionParts, options: Omit<MemoryOptions, 'checkpoints'>): Execution {
  const { checkpoints } = parts
  const { stepId, claimId, signal } = options
  const memory = createMemory({ ...options, checkpoints })
  /** Which checkpoint a failure came from. */
  const failedAt = new WeakMap<Error, { name: string; number: number }>()

  async function run<T>(
    name: string,
    body: (context: RunContext) => T | Promise<T>,
    runOptions: RunOptions = {},
  ): Promise<T> {
    const { value, error, ask } = await memory.once(name, 'run', (doing) => tryBody(doing, body, runOptions))
    if (!error) return value as T
    const failed = new RunFailed(name, error.class, error.message)
    failedAt.set(failed, ask)
    throw failed
  }

  async function tryBody(
    { ask, open, stand, readSinceMs }: Doing,
    body: (context: RunContext) => unknown,
    { retry }: RunOptions,
  ): Promise<Done> {
    const backoff = { ...DEFAULT_BACKOFF, ...retry }
    let failures = ask.remembered?.failures ?? 0
    if (ask.remembered?.due_ms) await stand(ask.remembered.due_ms - readSinceMs(), false)
    for (;;) {
      try {
        const result = asJson(await body({ attempt: failures + 1, signal }))
        return { result, failures, value: result === null ? undefined : JSON.parse(result) }
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

  /** What has come for it already, or comes before the wait is over. */
  async function answered(ask: Doing['ask'], stand: () => ReturnType<Doing['stand']>) {
    if (ask.remembered?.arrived) return ask.remembered
    const rows = ask.remembered ? [] : await checkpoints.answer(stepId)
    const there = rows.find((row) => row.arrived && row.name === ask.name && row.number === ask.number)
    return there ?? (await stand())
  }

  async function submit(name: string, wish: ChildWish): Promise<Child> {
    const { value, childId } = await memory.once(name, 'child', async ({ ask }) => {
      const value = await parts.submitChild({ id: stepId, claimId }, ask, wish)
      return { childId: parsePublicId(value)?.id ?? null, result: JSON.stringify(value), value }
    })
    const childStepId = String(value)
    return { stepId: childStepId, result: () => resultOf(name, childStepId, childId) }
  }

  async function resultOf(name: string, childStepId: string, childId: string | null): Promise<unknown> {
    const { value, error } = await memory.once(`${name}/result`, 'result', async ({ ask, open, stand }) => {
      if (!ask.remembered) await open({ childId })
      await answered(ask, () => stand(null, true))
      const { status, result, error: why } = await checkpoints.outcome(childId ?? '')
      if (status === 'completed') return { childId, result: json(result), value: result }
      return { childId, error: json({ class: status, message: why?.message ?? '' }) }
    })
    if (error) throw new ChildFailed(childStepId, error.class, error.message)
    return value
  }

  async function version(name: string, newest: number): Promise<number> {
    const made = async () => ({ result: JSON.stringify(newest), value: newest })
    const { value } = await memory.once(name, 'version', made, { value: 1 })
    return Number(value)
  }

  const ctx: Durable = {
    run: run as Durable['run'],
    sleep: (name, duration) => sleepFor(name, { delayMs: msOf(duration) }),
    sleepUntil: (name, when) => sleepFor(name, { dueAt: new Date(when).toISOString() }),
    waitForEvent,
    submit,
    async now() {
      const { value } = await memory.once('$now', 'now', async () => ({}))
      return value instanceof Date ? value : new Date(String(value))
    },
    async random() {
      const drawn = async () => {
        const value = Math.random()
        return { result: JSON.stringify(value), value }
      }
      return Number((await memory.once('$random', 'random', drawn)).value)
    },
    version,
  }

  return {
    ctx,
    memory,
    async isFinal(error) {
      const place = error instanceof Error ? failedAt.get(error) : undefined
      return place !== undefined && !(await checkpoints.forgetFailure(stepId, place.name, place.number))
    },
  }
}

function msOf(duration: Duration): number {
  const ms = typeof duration === 'number' ? duration : parseDuration(duration)
  if (Number.isFinite(ms) && ms >= 0) return ms
  throw new NonRetryableError(`${ms} is no span of time: give milliseconds, or words such as "5 minutes"`)
}

/** What a body returned, as it is kept: a replay must get the same, so the first attempt gets it this way too. */
function asJson(value: unknown): string | null {
  const text = JSON.stringify(value, (key, field: unknown) => {
    if (isJson(field)) return field
    throw new NonRetryableError(
      `what it returned is no JSON${key === '' ? '' : ` at "${key}"`}: ${nameOf(field)} would come back as something else. Return plain objects, arrays, strings, finite numbers, booleans or null.`,
    )
  })
  if (text === undefined) return null
  const bytes = Buffer.byteLength(text)
  if (bytes <= RESULT_BYTES_MAX) return json(value)
  throw new NonRetryableError(
    `what it returned has ${bytes} bytes; ${RESULT_BYTES_MAX} are allowed. Store it elsewhere and return where it lies.`,
  )
}

function isJson(value: unknown): boolean {
  if (typeof value === 'number') return Number.isFinite(value)
  if (typeof value === 'bigint' || typeof value === 'function' || typeof value === 'symbol') return false
  return !(value instanceof Map || value instanceof Set || value instanceof Promise)
}

const nameOf = (value: unknown) =>
  typeof value === 'object' && value !== null
    ? `a ${value.constructor.name}`
    : `${String(value)} (${typeof value})`
