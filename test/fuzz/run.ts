import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { endNow } from '../support/cleanup.ts'
import { startOwnPostgres } from '../support/postgres.ts'
import { startPodProcess, type PodProcess } from '../support/processes.ts'
import { createTemplate, withDatabase } from '../support/template.ts'
import { attack, type Recent } from './attack.ts'
import { settle, watchLoop } from './aftermath.ts'
import { ROLES, tokenOf } from './request.ts'

/**
 * npm run test:fuzz -- [--seed N] [--cases N]: requests drawn from openapi.json, sent to a real pod on a real Postgres.
 * Exit code 1: something was answered, logged or done that must never be; the smallest such request is printed.
 */

const { values } = parseArgs({
  options: { seed: { type: 'string' }, cases: { type: 'string', default: '10000' } },
})
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed)
const cases = Number(values.cases)

/** So many requests are under way at once. */
const CONNECTIONS = 6
/** The pod gets no more: a leak ends it. */
const HEAP_MB = 192

const say = (line: string) => process.stdout.write(`${line}\n`)
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

async function startPodUnderAttack(): Promise<PodProcess> {
  const server = await startOwnPostgres()
  const template = await createTemplate(server.url)
  return startPodProcess(
    withDatabase(server.url, template.name),
    {
      FLEET_Q_TOKENS: ROLES.map((role) => `${role}:${tokenOf(role)}`).join(','),
      FLEET_Q_HANDLERS: here('./handlers'),
      // Nothing may hide what lies behind it.
      FLEET_Q_RATE_LIMIT: '0',
      FLEET_Q_PROXY_HOPS: '1',
      FLEET_Q_LOG_LEVEL: 'info',
      // The machine may be busy, and death by starvation is not what is looked for.
      FLEET_Q_HEARTBEAT_SECONDS: '2',
      FLEET_Q_DEAD_AFTER_SECONDS: '30',
      FLEET_Q_STALL_SECONDS: '60',
    },
    { nodeArgs: [`--max-old-space-size=${HEAP_MB}`, '--import', here('./loop-watch.ts')] },
  )
}

/** Of all. */
const TURNED_AWAY_MAX = 0.02

const faults: string[] = []
try {
  const pod = await startPodUnderAttack()
  const port = Number(new URL(pod.url).port)
  say(`seed ${seed}: ${cases} requests over ${CONNECTIONS} connections`)
  const recent: Recent[] = []
  const loop = await watchLoop(pod, port, recent)
  const startedAt = performance.now()
  const {
    sent,
    statuses,
    faults: found,
  } = await attack({ port, seed, cases, connections: CONNECTIONS, recent })
  const seconds = (performance.now() - startedAt) / 1000
  say(`${sent} requests in ${seconds.toFixed(0)} s, ${Math.round(sent / seconds)} a second`)
  say(
    `answers: ${[...statuses]
      .toSorted(([a], [b]) => (String(a) < String(b) ? -1 : 1))
      .map(([status, n]) => `${status}: ${n}`)
      .join(', ')}`,
  )
  // Each that was turned away at the door was not tried. Hostile headers hold wrong tokens, too: those wait, and rightly.
  const turnedAway = statuses.get(429) ?? 0
  if (turnedAway > cases * TURNED_AWAY_MAX)
    faults.push(`${turnedAway} requests met a limit of rates: raise it for this pod`)
  faults.push(...found, ...(await settle(pod, port, loop, say)))
} finally {
  await endNow()
}
const firstLine = (fault: string) => fault.split('\n')[0]
const apart = faults.filter(
  (fault, i) => faults.findIndex((other) => firstLine(other) === firstLine(fault)) === i,
)
for (const fault of apart) say(`\nFAULT: ${fault}`)
say(
  faults.length === 0
    ? 'nothing was found'
    : `\n${apart.length} found; again with: npm run test:fuzz -- --seed ${seed} --cases ${cases}`,
)
process.exit(faults.length === 0 ? 0 : 1)
