import { setTimeout as sleep } from 'node:timers/promises'
import { KINDS } from './faults/kinds.ts'
import type { Done } from './faults/fault.ts'
import type { Fault } from './plan.ts'
import type { World } from './world.ts'

export interface Happened {
  n: number
  kind: string
  /** Undefined: there was nobody to do it to. */
  what: string | undefined
  /** Nobody can be quick then, whatever he does. */
  isOutage: boolean
  beganAt: Date
  endedAt: Date
}

/** Does what the plan says, one fault after the other, and writes down what really happened. */
export async function unleash(world: World, faults: Fault[]): Promise<Happened[]> {
  const happened: Happened[] = []
  for (const fault of faults) {
    await sleep(fault.restMs)
    const kind = KINDS[fault.kind]
    const beganAt = new Date()
    let done: Done | undefined
    try {
      done = await kind.begin(world, fault.dice)
      if (done) await sleep(fault.lastsMs)
      await done?.end?.()
    } catch (error) {
      world.say(`fault ${fault.n} (${fault.kind}) went wrong itself: ${String(error)}`)
    }
    const entry = {
      n: fault.n,
      kind: fault.kind,
      what: done?.what,
      isOutage: done?.isOutage === true,
      beganAt,
      endedAt: new Date(),
    }
    happened.push(entry)
    world.say(
      `fault ${fault.n} of ${faults.length}: ${done?.what ?? `${fault.kind}: nobody to do it to`}${fault.lastsMs > 0 && done ? `, ${((entry.endedAt.getTime() - beganAt.getTime()) / 1000).toFixed(1)} s` : ''}`,
    )
  }
  return happened
}
