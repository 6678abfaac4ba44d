import { createClient } from '../client.ts'

export interface Load {
  counts(): { submitted: number; refused: number }
  stop(): void
}

/** A steady load for a demonstration: steps that take half a second to three. */
export function startLoad(urls: () => string[], perSecond: number): Load {
  let submitted = 0
  let refused = 0
  let turn = 0
  const timer =
    perSecond > 0 &&
    setInterval(() => {
      const alive = urls()
      const url = alive[turn++ % Math.max(alive.length, 1)]
      if (url === undefined) return
      createClient({ baseUrl: url })
        .submitStep({ type: 'sleep', args: { seconds: 0.5 + Math.random() * 2.5 }, tags: ['demonstration'] })
        .then(
          () => submitted++,
          () => refused++,
        )
    }, 1000 / perSecond)
  return {
    counts: () => ({ submitted, refused }),
    stop: () => timer && clearInterval(timer),
  }
}
