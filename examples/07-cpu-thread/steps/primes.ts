import { defineStep } from 'fleet-q'
import { z } from 'zod'

/** Work for the processor: in a thread it blocks nobody, and can be ended even where it does not listen. */
export const primes = defineStep(
  'primes',
  { isolation: 'thread', input: z.object({ up_to: z.int().max(50_000_000) }) },
  ({ up_to }, ctx) => {
    const composite = new Uint8Array(up_to + 1)
    let found = 0
    for (let n = 2; n <= up_to; n++) {
      if (composite[n] === 1) continue
      found++
      for (let multiple = n * n; multiple <= up_to; multiple += n) composite[multiple] = 1
    }
    ctx.log.info(`${found} primes up to ${up_to}`)
    return { found }
  },
)

/** Never ends by itself. */
export const endless = defineStep('endless', { isolation: 'thread', timeoutSeconds: 0.3 }, () => {
  for (;;);
})
