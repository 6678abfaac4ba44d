import { appendFileSync, existsSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import { defineStep } from '../../../src/step/handler.ts'

const Args = z.object({ folder: z.string(), checkpoints: z.number() })

/** Kills its own process once at every checkpoint: within each second body, and behind each other. */
export const dying = defineStep('dying', { input: Args }, async ({ folder, checkpoints }, ctx) => {
  const dieOnceAt = (place: number) => {
    const mark = `${folder}/died-${place}`
    if (existsSync(mark)) return
    writeFileSync(mark, '')
    process.kill(process.pid, 'SIGKILL')
  }
  const got: number[] = []
  for (let place = 1; place <= checkpoints; place++) {
    got.push(
      place % 2 === 0
        ? await ctx.run(
            'ledger',
            async ({ tx }) => {
              await tx`insert into public.effects (place) values (${place})`
              if (place % 4 === 0) dieOnceAt(place)
              return place
            },
            { tx: true },
          )
        : await ctx.run('effect', () => {
            appendFileSync(`${folder}/effects`, `${place}\n`)
            return place
          }),
    )
    dieOnceAt(place)
  }
  return { got }
})
