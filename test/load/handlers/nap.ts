import { defineStep } from 'fleet-q'

export const nap = defineStep('nap', {}, async (_args, ctx) => {
  await ctx.sleep('a month', '30 days')
})

export const waits = defineStep('waits', {}, async (_args, ctx) => {
  await ctx.waitForEvent('word', { timeout: '30 days' })
})

export const quick = defineStep('quick', {}, () => 'done')
