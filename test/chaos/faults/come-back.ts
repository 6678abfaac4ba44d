import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Slot } from '../keep-pod.ts'
import type { FaultKind } from './fault.ts'
import { gone } from './processes.ts'

/** A pod is asked to end, and comes back otherwise than it was; until its next end, that is. */

export async function comeBackWith(slot: Slot, env: Record<string, string>) {
  const { pod } = slot
  if (!pod) return
  slot.extraEnv = env
  pod.signal('SIGTERM')
  await gone(slot, pod.id)
}

/** The library of the Debian package faketime. */
export function findFakeTime(): string | undefined {
  const root = '/usr/lib'
  if (process.platform !== 'linux' || !existsSync(root)) return undefined
  return readdirSync(root)
    .map((folder) => join(root, folder, 'faketime/libfaketimeMT.so.1'))
    .find((file) => existsSync(file))
}

/**
 * Hours away, days away, and a clock that runs away. Not one that is slow: the library stretches what a process waits
 * in the kernel by the rate (a timer of 1 s took 2 s at x0.5), and every pod has late timers on a busy machine anyhow.
 */
const CLOCKS = ['+5h', '-7h', '+40d', '-400d', '+0 x3', '-2h x20']

/** Steps of types that it does not know are left to others; it knows one that nobody asks for. */
const OTHER_HANDLERS = join(import.meta.dirname, '../handlers-of-another-version')

const isOfAnotherVersion = (slot: Slot) =>
  [slot.extraEnv, slot.startedWith].some((env) => 'FLEET_Q_HANDLERS' in env)

export const comeBacks = {
  'clock shifted': {
    about:
      'a pod comes back with a clock that is hours or days off, or runs away; its monotonic clock is well',
    lastsMs: [0, 0],
    often: 2,
    async begin(world, dice) {
      const slot = world.podBy(dice)
      const library = findFakeTime()
      if (!slot || !library) return undefined
      const clock = CLOCKS[Math.floor(dice * 1000) % CLOCKS.length] ?? '+5h'
      await comeBackWith(slot, {
        LD_PRELOAD: library,
        FAKETIME: clock,
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
      })
      return { what: `shifted the clock of pod ${slot.n} by ${clock}` }
    },
  },
  'another version': {
    about: 'a pod comes back that does not know three of the types, and knows one that others do not',
    lastsMs: [0, 0],
    often: 2,
    async begin(world, dice) {
      const slot = world.podBy(dice)
      // Somebody must know them all: whoever is started again by itself does.
      if (!world.slots.some((other) => other !== slot && !isOfAnotherVersion(other))) return undefined
      if (!slot) return undefined
      await comeBackWith(slot, { FLEET_Q_HANDLERS: OTHER_HANDLERS })
      return { what: `pod ${slot.n} is of another version` }
    },
  },
} satisfies Record<string, FaultKind>
