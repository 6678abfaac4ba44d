import { json } from '../step/describe.ts'
import { ChildFailed, type Child, type Children, type ChildWish, type Durable } from '../step/durable.ts'
import { NonRetryableError } from '../step/handler.ts'
import { parsePublicId } from '../step/step.ts'
import type { CheckpointError, CheckpointRow } from './checkpoint.sql.ts'
import type { Checkpoints, Outcome } from './checkpoints.ts'
import type { Doing, Done, Memory } from './memory.ts'
import { RESULT_BYTES_MAX } from './result.ts'

export interface ChildrenOptions {
  memory: Memory
  checkpoints: Pick<Checkpoints, 'outcomes'>
  /** Once for each place in the execution, however often it is called: all of them, or none. */
  submit(place: { name: string; number: number }, wishes: ChildWish[]): Promise<string[]>
  /** What has come for it already, or comes before the wait is over. */
  answered(
    ask: Doing['ask'],
    stand: () => Promise<CheckpointRow | undefined>,
  ): Promise<CheckpointRow | undefined>
  /** Everything that is asked of ctx comes by there. */
  ask<T>(words: string, what: () => Promise<T>): Promise<T>
}

/** So many outcomes are read at a time: each may have a megabyte. */
const SLICE = 50

/** Steps that an execution submits, and what becomes of them. */
export function createChildren({
  memory,
  checkpoints,
  submit,
  answered,
  ask,
}: ChildrenOptions): Pick<Durable, 'submit' | 'submitAll'> {
  let submitted: Promise<unknown> = Promise.resolve()

  /** One after another: each locks the letter of this execution, and a thousand that wait for it hold up everybody else. */
  const inTurn = (place: { name: string; number: number }, wishes: ChildWish[]): Promise<string[]> => {
    const mine = submitted.then(() => submit(place, wishes))
    submitted = mine.catch(() => {})
    return mine
  }

  async function submitOne(name: string, wish: ChildWish): Promise<Child> {
    const { value, childId } = await memory.once(name, 'child', async ({ ask }) => {
      const [value] = await inTurn(ask, [wish])
      return { childId: keyOf(value), result: JSON.stringify(value), value }
    })
    const stepId = String(value)
    return {
      stepId,
      result: () => ask(`submit("${name}").result()`, () => resultOf(name, stepId, childId)),
    }
  }

  async function resultOf(name: string, stepId: string, childId: string | null): Promise<unknown> {
    const { value, error } = await memory.once(`${name}/result`, 'result', async ({ ask, open, stand }) => {
      if (!ask.remembered) await open({ childId })
      await answered(ask, () => stand(null, true))
      const [outcome] = await checkpoints.outcomes([childId ?? ''])
      if (outcome?.status !== 'completed') return { childId, error: failureOf(outcome) }
      return { childId, result: json(outcome.result), value: outcome.result }
    })
    if (error) throw failed(stepId, error)
    return value
  }

  async function submitAll(name: string, wishes: ChildWish[]): Promise<Children> {
    const { value } = await memory.once(name, 'children', async ({ ask }) => {
      const value = wishes.length === 0 ? [] : await inTurn(ask, wishes)
      return { result: JSON.stringify(value), value }
    })
    const stepIds = (value as unknown[]).map(String)
    return { stepIds, results: () => ask(`submitAll("${name}").results()`, () => resultsOf(name, stepIds)) }
  }

  /** One wait for all: woken by each, an execution of n children would replay n times what it remembers of n. */
  async function resultsOf(name: string, stepIds: string[]): Promise<unknown[]> {
    if (stepIds.length === 0) return []
    const ids = stepIds.map((stepId) => keyOf(stepId) ?? '')
    const { value, error, childId } = await memory.once(
      `${name}/results`,
      'results',
      async ({ ask, open, stand }) => {
        // Whom it waits for is moved on by the database: see fleet_q.match_results.
        if (!ask.remembered) await open({ childId: ids.at(-1) ?? null, result: JSON.stringify(ids) })
        await answered(ask, () => stand(null, true))
        return collect(ids)
      },
    )
    if (error) throw failed(stepIds[ids.indexOf(childId ?? '')] ?? '', error)
    return value as unknown[]
  }

  /** What each of them returned, or how the first ended that did not complete. */
  async function collect(ids: string[]): Promise<Done> {
    const results: unknown[] = []
    const texts: string[] = []
    let bytes = 0
    for (let from = 0; from < ids.length; from += SLICE) {
      const outcomes = await checkpoints.outcomes(ids.slice(from, from + SLICE))
      for (const [i, outcome] of outcomes.entries()) {
        const childId = ids[from + i] ?? null
        if (outcome.status !== 'completed') return { childId, error: failureOf(outcome) }
        const text = json(outcome.result) ?? 'null'
        bytes += Buffer.byteLength(text) + 1
        texts.push(text)
        results.push(outcome.result)
      }
      if (bytes > RESULT_BYTES_MAX)
        throw new NonRetryableError(
          `what these ${ids.length} steps returned has more than ${RESULT_BYTES_MAX} bytes together. Let each store it elsewhere and return where it lies.`,
        )
    }
    return { childId: ids.at(-1) ?? null, result: `[${texts.join(',')}]`, value: results }
  }

  return {
    submit: (name, wish) => ask(`submit("${name}")`, () => submitOne(name, wish)),
    submitAll: (name, wishes) => ask(`submitAll("${name}")`, () => submitAll(name, wishes)),
  }
}

const keyOf = (stepId: string | undefined) => parsePublicId(stepId ?? '')?.id ?? null

const failureOf = (outcome: Outcome | undefined) =>
  json({ class: outcome?.status ?? 'forgotten', message: outcome?.error?.message ?? '' })

const failed = (stepId: string, error: CheckpointError) => new ChildFailed(stepId, error.class, error.message)
