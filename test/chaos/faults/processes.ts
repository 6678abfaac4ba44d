import { post } from '../../support/http.ts'
import { until } from '../../support/until.ts'
import { STALL_SECONDS, type Slot } from '../keep-pod.ts'
import type { World } from '../world.ts'
import type { Done, FaultKind } from './fault.ts'

/** What happens to processes. */

export const gone = (slot: Slot, podId: string) =>
  until(`pod ${slot.n} to end`, () => slot.pod?.id !== podId, 30_000)

async function kill(world: World, slot: Slot | undefined, what: string): Promise<Done | undefined> {
  const { pod } = slot ?? {}
  if (!slot || !pod) return undefined
  // By the clock of the machine, which is the database's: only the checker compares them.
  const at = new Date()
  pod.signal('SIGKILL')
  await gone(slot, pod.id)
  await world.sql`insert into chaos.kills (pod_id, at) values (${pod.id}, ${at})`.catch(() => {})
  return { what: `${what} ${pod.id}` }
}

/** A pod that holds steps, if one does: to kill another one says little. */
async function holder(world: World, dice: number): Promise<Slot | undefined> {
  const rows = await world.sql<{ id: string }[]>`
    select distinct pods.public_id as id
    from fleet_q.claims join fleet_q.pods on pods.id = claims.pod_id
    cross join unnest(claims.step_ids) as held (step_id)
    where not exists (select from fleet_q.outcomes where outcomes.step_id = held.step_id)
      and not exists (
        select from fleet_q.attempts where attempts.step_id = held.step_id and attempts.claim_id = claims.id)`.catch(
    () => [],
  )
  const ids = new Set(rows.map(({ id }) => id))
  return world.podBy(dice, ({ pod }) => pod !== undefined && ids.has(pod.id)) ?? world.podBy(dice)
}

/** Frozen pods are thawed at the end; one that was declared dead meanwhile ends by itself. */
function freeze(slot: Slot | undefined, what: string): Done | undefined {
  const { pod } = slot ?? {}
  if (!slot || !pod) return undefined
  pod.signal('SIGSTOP')
  slot.frozen = true
  return {
    what: `${what} ${pod.id}`,
    end() {
      pod.signal('SIGCONT')
      slot.frozen = false
    },
  }
}

/** A step that does harm to the pod that runs it; which pod that is, nobody can choose. */
async function harm(world: World, dice: number, type: string, ms: number): Promise<Done | undefined> {
  const slot = world.podBy(dice)
  if (!slot?.pod) return undefined
  const op = `harm-${type}-${dice}`
  const reply = await post(slot.pod.url, '/submit', { type, args: { op, ms }, max_retries: 5 }).catch(
    () => undefined,
  )
  return reply?.status === 201 ? { what: `${type} ${String(reply.body['step_id'])}` } : undefined
}

export const processes = {
  kill: {
    about: 'a pod is killed (SIGKILL)',
    lastsMs: [0, 0],
    often: 4,
    begin: async (world, dice) => kill(world, await holder(world, dice), 'killed'),
  },
  'kill the leader': {
    about: 'the leader is killed',
    lastsMs: [0, 0],
    often: 2,
    begin: async (world) => kill(world, await world.leader(), 'killed the leader'),
  },
  'kill two': {
    about: 'two pods are killed at once',
    lastsMs: [0, 0],
    async begin(world, dice) {
      const first = world.podBy(dice)
      const second = world.podBy(dice, (slot) => slot !== first)
      const done = await Promise.all([kill(world, first, 'killed'), kill(world, second, 'killed')])
      const what = done.flatMap((each) => each?.what ?? [])
      return what.length > 0 ? { what: what.join(', ') } : undefined
    },
  },
  terminate: {
    about: 'a pod is asked to end (SIGTERM)',
    lastsMs: [0, 0],
    often: 2,
    async begin(world, dice) {
      const slot = world.podBy(dice)
      const { pod } = slot ?? {}
      if (!slot || !pod) return undefined
      pod.signal('SIGTERM')
      await gone(slot, pod.id)
      return { what: `terminated ${pod.id}` }
    },
  },
  'roll the fleet': {
    about: 'every pod is asked to end, one after the other',
    lastsMs: [0, 0],
    async begin(world) {
      for (const slot of world.slots) {
        const { pod } = slot
        if (!pod) continue
        pod.signal('SIGTERM')
        await gone(slot, pod.id)
        await until(`pod ${slot.n} to come back`, () => slot.pod !== undefined, 60_000)
      }
      return { what: `rolled ${world.slots.length} pods` }
    },
  },
  'freeze shortly': {
    about: 'a pod is stopped (SIGSTOP) for less than its threshold',
    lastsMs: [200, 1500],
    begin: async (world, dice) => freeze(world.podBy(dice), 'froze'),
  },
  'freeze for long': {
    about: 'a pod is stopped for longer than its threshold, and comes back as a zombie',
    lastsMs: [4000, 6000],
    often: 2,
    begin: async (world, dice) => freeze(world.podBy(dice), 'froze'),
  },
  'two leaders': {
    about: 'the leader is stopped until another leads, and comes back believing that it leads',
    lastsMs: [4500, 6500],
    begin: async (world) => freeze(await world.leader(), 'froze the leader'),
  },
  'block shortly': {
    about: 'a handler blocks the event loop of its pod',
    lastsMs: [0, 0],
    begin: (world, dice) => harm(world, dice, 'blocking', 1500),
  },
  'block for long': {
    about: 'a handler blocks the event loop of its pod beyond the stall limit',
    lastsMs: [0, 0],
    begin: (world, dice) => harm(world, dice, 'blocking', (STALL_SECONDS + 4) * 1000),
  },
  'out of memory': {
    about: 'a handler takes all memory that its process may have',
    lastsMs: [0, 0],
    begin: (world, dice) => harm(world, dice, 'hungry', 0),
  },
} satisfies Record<string, FaultKind>
