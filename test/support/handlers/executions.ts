import { appendFileSync, existsSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { defineStep } from '../../../src/step/handler.ts'

const Args = z.object({ folder: z.string(), checkpoints: z.number(), meets: z.enum(['death', 'outage']) })

/** Meets its fate once at every checkpoint: within each second body that has a transaction, and behind all others. */
export const fated = defineStep('fated', { input: Args }, async ({ folder, checkpoints, meets }, ctx) => {
  const meetOnceAt = async (place: number) => {
    const mark = `${folder}/met-${place}`
    if (existsSync(mark)) return
    writeFileSync(mark, '')
    if (meets === 'death') process.kill(process.pid, 'SIGKILL')
    // The test makes the outage, and says so when it has begun.
    else while (!existsSync(`${folder}/away-${place}`)) await sleep(5)
  }
  const got: number[] = []
  for (let place = 1; place <= checkpoints; place++) {
    got.push(
      place % 2 === 0
        ? await ctx.run(
            'ledger',
            async ({ tx }) => {
              await tx`insert into public.effects (place) values (${place})`
              if (place % 4 === 0) await meetOnceAt(place)
              return place
            },
            { tx: true },
          )
        : await ctx.run('effect', () => {
            appendFileSync(`${folder}/effects`, `${place}\n`)
            return place
          }),
    )
    await meetOnceAt(place)
  }
  return { got }
})
