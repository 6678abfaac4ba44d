import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { endNow } from '../support/cleanup.ts'
import { until } from '../support/until.ts'
import { KINDS, type Kind } from './faults/kinds.ts'
import { createRandom } from './random.ts'
import { startLoad, type Load } from './soak-load.ts'
import { judge, takeSample, type Finding, type Sample } from './soak-sample.ts'
import { makeWorld, type World } from './world.ts'

/**
 * npm run test:soak -- [--minutes N]: what a fleet can do is found first, then it does 30 % of it with a fault every
 * minute, and what it uses is looked at from outside: memory, handles, connections, tables. Steps are kept for a
 * minute, so tables must stay as they are. Two pods are spared the faults that end processes, the oldest one, which
 * leads, and the one behind PgBouncer: what leaks shows where a process lives on.
 */

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '30' } } })
const minutes = Number(values.minutes)

const PODS = 5
const SPARED = [0, PODS - 1]
const LOAD_SHARE = 0.3
/** Asked for while the maximum is looked for: nobody does as much. */
const ALL = 100_000
const LOOK_MS = minutes < 15 ? 20_000 : 60_000
const FAULT_EVERY_MS = 60_000
const SAMPLE_EVERY_MS = 5000
const RETENTION_DAYS = 1 / 1440

const FAULTS: Kind[] = [
  'kill',
  'reset',
  'terminate backends',
  'stop Postgres (immediate)',
  'freeze for long',
  'cut',
  'blackhole both ways',
  'terminate',
  'kill PgBouncer',
  'lose an answer',
  'kill two',
  'stop Postgres (fast)',
  'freeze shortly',
  'refuse connections',
]
/** Also what may keep a pod from its database for longer than the threshold: then it is declared dead, and ends. */
const ENDS_PODS: Kind[] = [
  'kill',
  'kill two',
  'freeze for long',
  'terminate',
  'blackhole both ways',
  'refuse connections',
]

/** Of what is written down in a run of chaos only the ends, a row for each statement: millions of steps come by. */
const COUNT_ENDS = `
  drop trigger audit_taken on fleet_q.claims;
  drop trigger audit_gone on fleet_q.claims;
  drop trigger audit_tried on fleet_q.attempts;
  drop trigger audit_unsettled on fleet_q.outcomes;
  create table chaos.ended (step_ids bigint[] not null);
  create or replace function chaos.settled() returns trigger language plpgsql as $$begin
    insert into chaos.ended select array_agg(step_id) from new_rows having count(*) > 0;
    return null;
  end$$`

const folder = join(import.meta.dirname, '../../.cache/soak')
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })
const startedAt = performance.now()
const say = (line: string) =>
  process.stdout.write(`${((performance.now() - startedAt) / 1000).toFixed(0).padStart(6)} s  ${line}\n`)

const samples: Sample[] = []
const findings: Finding[] = []
let maximum = 0
try {
  await run()
} finally {
  await endNow()
}
writeFileSync(
  join(folder, 'soak.json'),
  `${JSON.stringify({ minutes, maximum, findings, samples }, null, 1)}\n`,
)
const wrong = findings.filter(({ holds }) => !holds)
process.stdout.write(
  `\n${findings.map(({ what, says, holds }) => `${holds ? 'holds ' : 'BROKEN'}  ${what.padEnd(20)} ${says}`).join('\n')}\n` +
    `\n${wrong.length === 0 ? 'all of it holds' : `${wrong.length} do not hold`}\n`,
)
process.exit(wrong.length === 0 ? 0 : 1)

async function run() {
  const world = await makeWorld({
    folder,
    pods: PODS,
    env: { FLEET_Q_RETENTION_DAYS: String(RETENTION_DAYS), FLEET_Q_LOG_LEVEL: 'info' },
    say: () => {},
  })
  await world.sql.unsafe(COUNT_ENDS)
  const load = startLoad(world)
  maximum = await findMaximum(world, load)
  say(`the fleet does ${maximum} steps a second; ${Math.round(maximum * LOAD_SHARE)} for ${minutes} minutes`)
  load.pace(maximum * LOAD_SHARE)
  const soakedAt = performance.now()
  const seconds = () => (performance.now() - soakedAt) / 1000
  let over = false
  const looking = look(world, load, seconds, () => over)
  await faults(world, minutes)
  over = true
  await looking
  await load.stop()
  await drained(world, load)
  findings.push(...judge(samples, SPARED), await nothingLost(world, load))
}

async function findMaximum(world: World, load: Load): Promise<number> {
  const before = await settledSoFar(world)
  const at = performance.now()
  load.pace(ALL)
  await sleep(LOOK_MS)
  const settled = (await settledSoFar(world)) - before
  const rate = Math.round((settled / (performance.now() - at)) * 1000)
  load.pace(0)
  await drained(world, load)
  return rate
}

async function look(world: World, load: Load, seconds: () => number, isOver: () => boolean) {
  say(
    '   accepted    settled  ' +
      SPARED.map((n) => `pod ${n}: MB fds`).join('  ') +
      '  conns  tables MB  dead rows',
  )
  for (let n = 0; !isOver(); n++) {
    const sample = await takeSample(world, seconds(), load.accepted)
    if (sample) samples.push(sample)
    if (sample && n % 6 === 0) say(inWords(sample))
    await sleep(SAMPLE_EVERY_MS)
  }
}

function inWords(sample: Sample): string {
  const spared = SPARED.map((n) => {
    const pod = sample.pods.find((each) => each.n === n)
    return `${String(pod?.rssMb ?? '-').padStart(9)} ${String(pod?.fds ?? '-').padStart(3)}`
  })
  return [
    String(sample.accepted).padStart(11),
    String(sample.settled).padStart(9),
    ...spared,
    String(sample.connections).padStart(5),
    (sample.tablesMb + sample.indexesMb).toFixed(1).padStart(9),
    String(sample.deadRows).padStart(9),
  ].join('  ')
}

/** One in the middle of each minute, each kind in its turn. */
async function faults(world: World, rounds: number) {
  const random = createRandom(rounds)
  const others: World = {
    ...world,
    podBy: (dice, fits = () => true) => world.podBy(dice, (slot) => !SPARED.includes(slot.n) && fits(slot)),
  }
  for (let n = 0; n < rounds; n++) {
    await sleep(FAULT_EVERY_MS / 2)
    const begunAt = performance.now()
    const kind = FAULTS[n % FAULTS.length] ?? 'kill'
    const { begin, lastsMs } = KINDS[kind]
    // From 0.25 on a network fault hits one pod: all of them would include the spared.
    const done = await begin(ENDS_PODS.includes(kind) ? others : world, 0.25 + random.next() * 0.75)
    await sleep(done ? random.between(...lastsMs) : 0)
    await done?.end?.()
    say(`fault: ${done?.what ?? `${kind}, nobody to do it to`}`)
    await sleep(Math.max(0, FAULT_EVERY_MS / 2 - (performance.now() - begunAt)))
  }
}

async function settledSoFar(world: World): Promise<number> {
  const [row] = await world.sql<{ n: number }[]>`
    select coalesce(sum(cardinality(step_ids)), 0)::int as n from chaos.ended`
  return row?.n ?? 0
}

function drained(world: World, load: Load) {
  return until(
    'everything accepted to be settled',
    async () => (await settledSoFar(world).catch(() => 0)) >= load.accepted,
    180_000,
  )
}

/** Retention throws outcomes away: what the triggers of the database wrote down stays. */
async function nothingLost(world: World, load: Load): Promise<Finding> {
  const [row] = await world.sql<{ steps: number; twice: number; open: number }[]>`
    select count(*)::int as steps, (count(*) filter (where times > 1))::int as twice,
      (select count(*)::int from fleet_q.steps where not exists (
        select from fleet_q.outcomes where outcomes.step_id = steps.id)) as open
    from (
      select step_id, count(*) as times from chaos.ended cross join unnest(step_ids) as step_id group by step_id
    ) as ended`
  const { steps = 0, twice = 0, open = 0 } = row ?? {}
  return {
    what: 'nothing lost',
    says: `${load.accepted} steps accepted, ${steps} settled, ${twice} of them twice, ${open} open`,
    holds: steps === load.accepted && twice === 0 && open === 0,
  }
}
