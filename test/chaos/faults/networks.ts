import { saysCommitted, type Link } from '../../support/proxy.ts'
import type { Slot } from '../keep-pod.ts'
import type { World } from '../world.ts'
import type { Done, FaultKind } from './fault.ts'

/** What happens between one pod and the database, or all pods and the database. */

/** One pod, or each of them. */
const some = (world: World, dice: number): Slot[] => {
  const one = world.podBy((dice * 7) % 1)
  return dice < 0.25 ? world.slots : one ? [one] : []
}

const through =
  (what: string, act: (slot: Slot) => unknown) =>
  async (world: World, dice: number): Promise<Done | undefined> => {
    const slots = some(world, dice)
    if (slots.length === 0) return undefined
    for (const slot of slots) await act(slot)
    return {
      what: `${what}: ${slots.length > 1 ? 'all pods' : (slots[0]?.pod?.id ?? 'a pod')}`,
      end() {
        for (const slot of slots) slot.network.pass()
      },
      isOutage: slots.length > 1,
    }
  }

const isCalls = (link: Link) => link.name.startsWith('fleet-q listen')

export const networks = {
  delay: {
    about: 'every packet takes 50 ms longer',
    lastsMs: [1000, 4000],
    begin: through('delayed', (slot) => slot.network.delay(50)),
  },
  drip: {
    about: 'answers and questions come in drips of 64 bytes',
    lastsMs: [1000, 3000],
    begin: through('dripping', (slot) => slot.network.drip(5)),
  },
  'blackhole both ways': {
    about: 'bytes vanish in both directions, nobody is told; what was open then stays dead',
    lastsMs: [1000, 6000],
    often: 2,
    begin: through('blackhole', (slot) => slot.network.blackhole('both')),
  },
  'blackhole to the server': {
    about: 'what pods send vanishes',
    lastsMs: [1000, 6000],
    begin: through('blackhole to the server', (slot) => slot.network.blackhole('to server')),
  },
  'blackhole to the client': {
    about: 'what the server answers vanishes: it has done what it was asked, and nobody knows',
    lastsMs: [1000, 6000],
    begin: through('blackhole to the client', (slot) => slot.network.blackhole('to client')),
  },
  'half-open for a moment': {
    about: 'connections die without a word while new ones can be made',
    lastsMs: [20, 100],
    begin: through('half-open', (slot) => slot.network.blackhole('both')),
  },
  'refuse connections': {
    about: 'nobody listens any more, and what is open is reset',
    lastsMs: [500, 5000],
    begin: through('refused', async (slot) => {
      await slot.network.refuse()
      slot.network.reset()
    }),
  },
  reset: {
    about: 'all connections are reset (RST), some of them in the middle of an answer',
    lastsMs: [0, 0],
    often: 3,
    begin: through('reset', (slot) => slot.network.reset()),
  },
  cut: {
    about: 'all connections are closed (FIN)',
    lastsMs: [0, 0],
    often: 2,
    begin: through('cut', (slot) => slot.network.cut()),
  },
  'lose an answer': {
    about: 'the answer to one exchange, submit or commit is lost, and its connection with it',
    lastsMs: [500, 1500],
    often: 4,
    begin: through('lost an answer', (slot) => {
      void slot.network.swallowAnswer((_, link) =>
        /^fleet-q (work|submits|door|transactions)/.test(link.name),
      )
    }),
  },
  'cut on commit': {
    about: 'a transaction is committed, and nobody is told: its connection is reset before the answer',
    lastsMs: [500, 1500],
    often: 2,
    begin: through('cut on commit', (slot) => void slot.network.swallowAnswer(saysCommitted)),
  },
  'lose the calls': {
    about: 'notifications vanish, and nobody is told',
    lastsMs: [2000, 5000],
    begin: through('no calls', (slot) => slot.network.blackhole('to client', isCalls)),
  },
  'kill PgBouncer': {
    about: 'the pooler is killed and started again',
    lastsMs: [200, 3000],
    async begin({ bouncer }) {
      if (!bouncer) return undefined
      await bouncer.kill()
      return { what: 'killed PgBouncer', end: () => bouncer.start() }
    },
  },
} satisfies Record<string, FaultKind>
