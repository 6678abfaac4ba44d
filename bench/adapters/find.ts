import type { Adapter } from './adapter.ts'

/** Loaded when asked for: a worker process must not carry the modules of the others. */
const ADAPTERS: Record<string, () => Promise<Adapter>> = {
  'fleet-q': async () => (await import('./fleet-q.ts')).fleetQ,
  'graphile-worker': async () => (await import('./graphile-worker.ts')).graphileWorker,
  'pg-boss': async () => (await import('./pg-boss.ts')).pgBoss,
  'bullmq-pg': async () => (await import('./bullmq.ts')).bullmqPg,
  'bullmq-redis': async () => (await import('./bullmq-redis.ts')).bullmqRedis,
  dbos: async () => (await import('./dbos.ts')).dbos,
  absurd: async () => (await import('./absurd.ts')).absurd,
  hono: async () => (await import('./hono.ts')).hono,
  bare: async () => (await import('./bare.ts')).bare,
}

export const adapterNames = Object.keys(ADAPTERS)

export async function findAdapter(name: string): Promise<Adapter> {
  const load = ADAPTERS[name]
  if (!load) throw new Error(`There is no adapter "${name}". There are: ${adapterNames.join(', ')}.`)
  return load()
}
