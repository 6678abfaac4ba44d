import { after } from 'node:test'

const steps: (() => Promise<unknown> | void)[] = []
/** A script is no test: it ends itself what it has begun. */
const isTest = process.argv[1]?.endsWith('.test.ts') === true

/** Runs when the file ends, the last registered first: pods stop before their database goes. */
export function atEnd(work: () => Promise<unknown> | void) {
  if (isTest && steps.length === 0) after(endNow)
  steps.push(work)
}

/** By a script, when it is done. */
export async function endNow() {
  for (const step of steps.splice(0).toReversed()) await step()
}
