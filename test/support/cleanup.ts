import { after } from 'node:test'

const steps: (() => Promise<unknown> | void)[] = []
/** A script is no test: it ends itself what it has begun. */
const isTest = process.argv[1]?.endsWith('.test.ts') === true
let isAsked = false

/** Runs when the file ends, the last registered first: pods stop before their database goes. */
export function atEnd(work: () => Promise<unknown> | void) {
  if (steps.length === 0) {
    if (isTest) after(endNow)
    else endWhenAsked()
  }
  steps.push(work)
}

/** A script that somebody stops leaves no servers behind; unless it has a way of its own to stop. */
function endWhenAsked() {
  if (isAsked) return
  isAsked = true
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.on(signal, () => {
      if (process.listenerCount(signal) === 1) void endNow().finally(() => process.exit(130))
    })
}

/** By a script, when it is done. */
export async function endNow() {
  for (const step of steps.splice(0).toReversed()) await step()
}
