import { createPod, defineStep, type Pod } from '../../src/index.ts'
import { rest } from '../support/rest.ts'

/**
 * A process that holds many pods: node many-pods.js '{"pods":10,"settings":{…}}'. Says when they are up, and ends with
 * whoever started it.
 */
export interface ManyPods {
  pods: number
  settings: Record<string, string>
}

export interface Up {
  pods: { id: string; url: string }[]
}

const wish = JSON.parse(process.argv[2] ?? '') as ManyPods

const plain = defineStep('plain', {}, () => ({ pid: process.pid }))

/** Long in its first attempt, for as long as it may take to miss a pod and to doubt it; at once after that. */
const held = defineStep('held', {}, async (_, ctx) => {
  if (ctx.attempt === 1) await rest(60_000, ctx.signal)
  return { pid: process.pid }
})

const one = (): Promise<Pod> =>
  createPod({ steps: [plain, held], silent: true, settings: { ...wish.settings, FLEET_Q_API_PORT: '0' } })

const pods = await Promise.all(Array.from({ length: wish.pods }, one))
const up: Up = {
  pods: pods.map(({ id, address }) => ({ id, url: `http://127.0.0.1:${address.port}` })),
}
process.send?.(up)
process.on('disconnect', () => process.exit(0))
