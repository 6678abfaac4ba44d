import type { Client } from '../client.ts'

export interface Load {
  counts(): { submitted: number; refused: number }
  stop(): void
}

/** A steady load for a demonstration: steps that take one second to five, so that every pod holds some. */
export function startLoad(clientOf: (url: string) => Client, urls: () => string[], perSecond: number): Load {
  let submitted = 0
  let refused = 0
  let turn = 0
  const timer =
    perSecond > 0 &&
    setInterval(() => {
      const alive = urls()
      const url = alive[turn++ % Math.max(alive.length, 1)]
      if (url === undefined) return
      clientOf(url)
        .submitStep({ type: 'sleep', args: { seconds: 1 + Math.random() * 4 }, tags: ['demonstration'] })
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
