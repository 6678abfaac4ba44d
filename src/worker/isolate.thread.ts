/* oxlint-disable unicorn/require-post-message-target-origin -- threads are no windows: they have no origin */
import { pathToFileURL } from 'node:url'
import { parentPort, workerData } from 'node:worker_threads'
import { isNonRetryable } from '../step/describe.ts'
import { withoutMemory, type Durable } from '../step/durable.ts'
import {
  isStepDefinition,
  NonRetryableError,
  Wish,
  type StepContext,
  type StepDefinition,
  type StepLog,
} from '../step/handler.ts'

/** What a handler says while it runs. */
export type ThreadMessage =
  | { kind: 'log'; level: keyof StepLog; message: string; data?: unknown }
  | { kind: 'progress'; percent: number; message?: string }

/** What the pod says to a thread. */
export type Order =
  | { kind: 'run'; id: number; modulePath: string; exportName: string; args: unknown; context: PlainContext }
  | { kind: 'abort'; id: number; reason: PlainError }

/** What a thread says to the pod. */
export type Report = { id: number } & (
  | { kind: 'said'; message: ThreadMessage }
  | { kind: 'returned'; json: string | undefined }
  | { kind: 'wished'; wish: Pick<Wish, 'kind' | 'afterMs' | 'reason'> }
  | { kind: 'threw'; error: PlainError }
)

export type PlainContext = Omit<StepContext, 'signal' | 'log' | 'progress' | 'tx' | keyof Durable>

export interface PlainError {
  name: string
  message: string
  stack: string | undefined
  isFinal: boolean
  /** Properties of the error that are plain: a code, a reason. */
  extra: Record<string, string | number | boolean>
}

/** How a thread knows that it is one of ours: the pod imports this module too, for the words of the two sides. */
export const THREAD_NAME = 'fleet-q handler'

const RESULT_CHARS_MAX = 1024 * 1024
const TEXT_CHARS_MAX = 16_384
/** The pod keeps fewer; this bounds what lies in its mailbox when a handler talks without end. */
const LINES_MAX = 2000
const PROGRESS_EVERY_MS = 100

let current: { id: number; controller: AbortController } | undefined

if (workerData === THREAD_NAME)
  parentPort?.on('message', (order: Order) => {
    if (order.kind === 'run') void run(order)
    else if (order.id === current?.id) current.controller.abort(errorFrom(order.reason))
  })

const report = (message: Report) => parentPort?.postMessage(message)

/** Runs one handler; the pod sends the next order when this one is over. */
async function run(order: Extract<Order, { kind: 'run' }>) {
  const { id } = order
  const controller = new AbortController()
  current = { id, controller }
  const voice = createVoice((message) => report({ id, kind: 'said', message }))
  try {
    const definition = await findStep(order.modulePath, order.exportName)
    controller.signal.throwIfAborted()
    const value = await definition.run(order.args, {
      ...order.context,
      ...voice.context,
      signal: controller.signal,
      tx,
      ...withoutMemory(
        "a thread remembers nothing: let the step be without isolation: 'thread', and hand the work to a step of its own",
      ),
    })
    voice.flush()
    report({ id, ...ending(value) })
  } catch (error) {
    voice.flush()
    report({ id, kind: 'threw', error: plainError(error) })
  }
}

async function findStep(modulePath: string, exportName: string): Promise<StepDefinition> {
  const exported: unknown = await import(pathToFileURL(modulePath).href)
  const definition = Object.entries(Object(exported)).find(([name]) => name === exportName)?.[1]
  if (isStepDefinition(definition)) return definition
  throw new NonRetryableError(
    `${modulePath} exports no step as ${exportName}; a step that runs in a thread must be the same export every time ` +
      'its module is imported',
  )
}

const tx: StepContext['tx'] = () =>
  Promise.reject(
    new NonRetryableError(
      "ctx.tx() is not available in a thread, because the connection belongs to the pod. Let the step be without isolation: 'thread', or return what is to be written",
    ),
  )

/** By the name of the class, too: a handler may come with a copy of the library of its own. */
const isWish = (value: unknown): value is Wish =>
  value instanceof Wish || (typeof value === 'object' && value !== null && value.constructor?.name === 'Wish')

function ending(value: unknown) {
  if (isWish(value)) {
    const { kind, afterMs, reason } = value
    return { kind: 'wished', wish: { kind, afterMs, reason } } as const
  }
  return { kind: 'returned', json: resultText(value) } as const
}

/** Written here, so that the pod is not busy with it; what is too long for the queue does not even travel. */
function resultText(value: unknown): string | undefined {
  let text: string | undefined
  try {
    text = JSON.stringify(value)
  } catch (error) {
    throw new NonRetryableError(
      `the result cannot be written as JSON: ${error instanceof Error ? error.message : String(error)}`,
    )
  }
  if (text !== undefined && text.length > RESULT_CHARS_MAX)
    throw new NonRetryableError(
      `the result has ${text.length} characters; ${RESULT_CHARS_MAX} are allowed. Store it elsewhere and return where it lies`,
    )
  return text
}

/** What a handler may say. Progress goes out at intervals, the last of it at the end. */
function createVoice(say: (message: ThreadMessage) => void) {
  let lines = 0
  let saidAt = Number.NEGATIVE_INFINITY
  let pending: ThreadMessage | undefined

  const flush = () => {
    if (pending !== undefined) say(pending)
    pending = undefined
    saidAt = performance.now()
  }
  const line =
    (level: keyof StepLog) =>
    (message: string, data?: unknown): void => {
      if (++lines > LINES_MAX) return
      const text = short(message)
      say({ kind: 'log', level, message: text, ...(data === undefined ? {} : { data: plainData(data) }) })
    }
  const progress = (percent: number, message?: string) => {
    pending = { kind: 'progress', percent, ...(message === undefined ? {} : { message: short(message) }) }
    if (performance.now() - saidAt >= PROGRESS_EVERY_MS) flush()
  }
  const log = { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') }
  return { flush, context: { log, progress } }
}

function plainData(data: unknown): unknown {
  try {
    const text = JSON.stringify(data) ?? String(data)
    return text.length > TEXT_CHARS_MAX ? text.slice(0, TEXT_CHARS_MAX) : JSON.parse(text)
  } catch {
    return String(data)
  }
}

export const plainError = (error: unknown): PlainError => {
  if (!(error instanceof Error))
    return { name: 'Error', message: short(error), stack: undefined, isFinal: false, extra: {} }
  const { name, message, stack } = error
  const extra = Object.entries(error).filter(
    ([, value]) => typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean',
  )
  return {
    name,
    message: short(message),
    stack: stack && short(stack),
    isFinal: isNonRetryable(error),
    extra: Object.fromEntries(extra),
  }
}

/** The same error on the other side: its class only where the queue asks for it, its name, words and stack as they were. */
export function errorFrom({ name, message, stack, isFinal, extra }: PlainError): Error {
  const error = isFinal ? new NonRetryableError(message) : new Error(message)
  Object.assign(error, extra, { name })
  if (stack !== undefined) error.stack = stack
  return error
}

/** Handlers in JavaScript may say anything. */
const short = (text: unknown) => String(text).slice(0, TEXT_CHARS_MAX)
