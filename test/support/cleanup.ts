import { after } from 'node:test'

const steps: (() => Promise<unknown> | void)[] = []
let registered = false

/** Runs when the file ends, the last registered first: pods stop before their database goes. */
export function atEnd(work: () => Promise<unknown> | void) {
  steps.push(work)
  if (registered) return
  registered = true
  after(async () => {
    for (const step of steps.toReversed()) await step()
  })
}
