import { PLACES } from '../../../src/kernel/failpoint.ts'
import { spell, type Action } from '../../support/arm.ts'
import { comeBackWith } from './come-back.ts'
import type { FaultKind } from './fault.ts'

/** A pod is restarted with a trap on its way: the fault happens when it comes past, minutes later perhaps. */

const ACTIONS: Action[] = ['kill', 'kill', 'stop', 'throw', 'delay:1500']
const PASSINGS = [1, 2, 5, 20, 100]

export const failpoints = {
  failpoint: {
    about: 'a pod comes back with a failpoint in it: kill, stop, throw or delay at a place where it hurts',
    lastsMs: [0, 0],
    often: 5,
    async begin(world, dice) {
      const slot = world.podBy(dice)
      if (!slot) return undefined
      const at = Math.floor(dice * 1_000_000)
      const place = PLACES[at % PLACES.length] ?? 'exchange.after'
      const drawn = ACTIONS[Math.floor(at / 31) % ACTIONS.length] ?? 'kill'
      // An exception that nobody foresaw is answered with 500, and rightly so.
      const action = drawn === 'throw' && /^(submit|cancel|redrive|pause|event)/.test(place) ? 'kill' : drawn
      const passing = PASSINGS[Math.floor(at / 173) % PASSINGS.length] ?? 1
      await comeBackWith(slot, { TEST_FAILPOINTS: spell(place, action, passing) })
      return { what: `armed pod ${slot.n}: ${spell(place, action, passing)}` }
    },
  },
} satisfies Record<string, FaultKind>
