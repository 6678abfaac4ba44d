import { defineStep } from '../../../src/step/handler.ts'

/** What the pod under attack can run: submits of any arguments end one way or the other. */
export const echo = defineStep('echo', {}, (args) => args)

export const fails = defineStep('fails', {}, (args) => {
  throw new Error(`as it was told: ${JSON.stringify(args).slice(0, 200)}`)
})
