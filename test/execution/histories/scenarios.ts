import { z } from 'zod'
import { ChildFailed, EventTimeout, RunFailed } from '../../../src/step/durable.ts'
import { defineStep, NonRetryableError, type StepDefinition } from '../../../src/step/handler.ts'

/**
 * Handlers that use each thing that an execution can ask for, up to a point where they are asleep. What they remembered
 * there is stored by record.ts with each release, and has to fit this code for ever: change none of them, add others.
 */
export interface Scenario {
  /** Its type is the name of the scenario, with history- before it. */
  step: StepDefinition
  /** Sent at its start, in this order. */
  events: [name: string, payload: unknown][]
  /** The open checkpoint that it is asleep over when it is stored. */
  asleepOver: string
  /** What moves it on. */
  wake: { event: string } | { travel: string }
}

/** Which bodies ran, in their order: emptied by whoever looks. */
export const ran: string[] = []

const body =
  <T>(name: string, value: T) =>
  () => {
    ran.push(name)
    return value
  }

/** What an execution caught, and how it tells. */
const told = (error: unknown) => {
  if (error instanceof RunFailed) return [error.thrown, error.message]
  if (error instanceof ChildFailed) return [error.status]
  return [error instanceof EventTimeout ? 'too late' : String(error)]
}

export const child = defineStep('history-child', { input: z.object({ n: z.number() }) }, ({ n }) => {
  ran.push(`child ${n}`)
  if (n < 0) throw new NonRetryableError('negative')
  return n * 2
})

const scenario = (
  name: string,
  run: StepDefinition['run'],
  more: Pick<Scenario, 'asleepOver' | 'wake'> & Partial<Scenario>,
): [string, Scenario] => [name, { events: [], ...more, step: defineStep(`history-${name}`, {}, run) }]

const UNTIL_END: Pick<Scenario, 'asleepOver' | 'wake'> = { asleepOver: 'end', wake: { event: 'end' } }

export const scenarios: [name: string, Scenario][] = [
  scenario(
    'bodies',
    async (_, ctx) => {
      const one = await ctx.run('one', body('one', { n: 1 }))
      const nothing = await ctx.run('nothing', body('nothing', undefined))
      const exact = await ctx.run(
        'exact',
        async ({ tx }) => {
          ran.push('exact')
          return (await tx`select 1`).length
        },
        { tx: true },
      )
      const caught = await ctx.run('breaks', () => Promise.reject(new TypeError('broken'))).catch(told)
      const again: number[] = []
      for (const n of [1, 2, 3]) again.push(await ctx.run('again', body(`again ${n}`, n)))
      const drawn = [await ctx.now(), await ctx.random(), await ctx.version('drawn', 2)]
      await ctx.waitForEvent('end')
      const last = await ctx.run('last', body('last', 'last'))
      return { one, isNothing: nothing === undefined, exact, caught, again, drawn, last }
    },
    UNTIL_END,
  ),
  scenario(
    'retries',
    (_, ctx) =>
      ctx.run(
        'flaky',
        ({ attempt }) => {
          ran.push(`flaky ${attempt}`)
          if (attempt < 2) throw new Error('not yet')
          return attempt
        },
        { retry: { max: 2, base_ms: 300_000, jitter: 0 } },
      ),
    { asleepOver: 'flaky', wake: { travel: '1 hour' } },
  ),
  scenario(
    'sleeps',
    async (_, ctx) => {
      const before = await ctx.run('before', body('before', 1))
      await ctx.sleep('nap', 10)
      await ctx.sleep('month', '30 days')
      return [before, await ctx.run('after', body('after', 2))]
    },
    { asleepOver: 'month', wake: { travel: '31 days' } },
  ),
  scenario(
    'events',
    async (_, ctx) => {
      const early = await ctx.waitForEvent('early', { schema: z.object({ n: z.number() }) })
      const never = await ctx.waitForEvent('never', { timeout: 10 }).catch(told)
      await ctx.waitForEvent('end', { timeout: '365 days' })
      return { early, never, second: await ctx.waitForEvent('early') }
    },
    {
      ...UNTIL_END,
      events: [
        ['early', { n: 1 }],
        ['early', { n: 2 }],
      ],
    },
  ),
  scenario(
    'children',
    async (_, ctx) => {
      const one = await ctx.submit('one', { type: child.type, args: { n: 1 } })
      const bad = await ctx.submit('bad', { type: child.type, args: { n: -1 }, detached: true })
      const wishes = [2, 3, 4].map((n) => ({ type: child.type, args: { n } }))
      const many = await ctx.submitAll('many', wishes)
      const results = [await one.result(), await bad.result().catch(told), await many.results()]
      await ctx.waitForEvent('end')
      return { results, ids: [one.stepId, bad.stepId, ...many.stepIds].length }
    },
    UNTIL_END,
  ),
  scenario(
    'waits-for-children',
    async (_, ctx) => {
      const later = (n: number) => ({ type: child.type, args: { n }, delay_seconds: 86_400 })
      const one = await ctx.submit('one', later(5))
      const many = await ctx.submitAll('many', [later(6), later(7)])
      return Promise.all([one.result(), many.results()])
    },
    { asleepOver: 'many/results', wake: { travel: '2 days' } },
  ),
  scenario(
    'beside',
    (_, ctx) =>
      Promise.all(
        [1, 2, 3].map(async (n) => {
          const a = await ctx.run('a', body(`a ${n}`, n))
          await ctx.sleep('pause', (4 - n) * 10)
          const b = await ctx.run('b', body(`b ${n}`, n * 10))
          if (n === 2) await ctx.waitForEvent('end')
          return [a, b, await ctx.run('c', body(`c ${n}`, n * 100))]
        }),
      ),
    UNTIL_END,
  ),
  scenario(
    'undo',
    async (_, ctx) => {
      for (const what of ['flight', 'hotel']) {
        await ctx.run(`book ${what}`, body(`book ${what}`, what))
        await ctx.onFailure(`cancel ${what}`, body(`cancel ${what}`, what))
      }
      await ctx.waitForEvent('end')
      await ctx.run('pay', () => {
        ran.push('pay')
        throw new NonRetryableError('no money')
      })
    },
    UNTIL_END,
  ),
]
