import { randomUUID } from 'node:crypto'
import type { StepContext } from '../../src/step/handler.ts'
import { rest } from '../support/rest.ts'

/**
 * What a handler is given at each place of an execution, told to the world outside of it: each effect says all that was
 * given so far. A replay that gives something else than an earlier attempt had, or than what is remembered, is seen.
 * Bodies bring what no other run of them can bring, so that a result says which of the runs it is of.
 */
export interface Trace {
  /** By place: the number and the name. */
  readonly seen: Record<string, unknown>
  /** Nothing outside: a body that takes so long, and fails so often at first. */
  think(name: string, ms?: number, failures?: number): Promise<unknown>
  /** Asks the sink: at least once, and at most one answer is ever accepted. */
  effect(name: string): Promise<unknown>
  /** Writes through the transaction of the checkpoint: exactly once. */
  ledger(name: string): Promise<unknown>
  /** Whatever else is asked for by that name. */
  given<T>(name: string, ask: (place: string) => Promise<T>): Promise<T>
}

export function traceOf(ctx: StepContext): Trace {
  const seen: Record<string, unknown> = {}
  const times = new Map<string, number>()

  async function given<T>(name: string, ask: (place: string) => Promise<T>): Promise<T> {
    const number = (times.get(name) ?? 0) + 1
    times.set(name, number)
    const place = `${number} ${name}`
    // At once: the order of asking counts.
    const value = await ask(place)
    seen[place] = value ?? null
    return value
  }

  return {
    seen,
    given,
    think: (name, ms = 0, failures = 0) =>
      given(name, () =>
        ctx.run(
          name,
          async ({ attempt, signal }) => {
            if (ms > 0) await rest(ms, signal)
            if (attempt <= failures) throw new Error(`try ${attempt} of ${failures} that fail`)
            return randomUUID()
          },
          { retry: { max: failures + 3, base_ms: 20, max_ms: 200 } },
        ),
      ),
    effect: (name) =>
      given(name, (place) =>
        ctx.run(
          name,
          async ({ signal }) => {
            const value = randomUUID()
            await tellSink(ctx, { place, value, seen }, signal)
            return value
          },
          { retry: { max: 5, base_ms: 50 } },
        ),
      ),
    ledger: (name) =>
      given(name, (place) =>
        ctx.run(
          name,
          async ({ tx }) => {
            const value = randomUUID()
            await tx`insert into chaos.written (step_id, place, value) values (${ctx.stepId}, ${place}, ${value})`
            return value
          },
          { tx: true, retry: { max: 5, base_ms: 50 } },
        ),
      ),
  }
}

export async function tellSink(ctx: StepContext, more: object, signal: AbortSignal) {
  const response = await fetch(process.env['CHAOS_SINK'] ?? '', {
    method: 'POST',
    body: JSON.stringify({ step: ctx.stepId, attempt: ctx.attempt, pid: process.pid, ...more }),
    signal,
  })
  await response.arrayBuffer()
}
