import { fork, type ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import postgres from 'postgres'
import { atEnd } from '../support/cleanup.ts'
import { findPgBouncer, startPgBouncer, type PgBouncer } from '../support/pgbouncer.ts'
import { startOwnPostgres, type OwnPostgres } from '../support/postgres.ts'
import { createTemplate, withDatabase } from '../support/template.ts'
import { until } from '../support/until.ts'
import { startAudit } from './audit.ts'
import { makeDisk, type Disk } from './disk.ts'
import { keepPod, type Slot } from './keep-pod.ts'

/** Everything that a run happens to: a server, pods that are started again when they end, networks, a sink. */
export interface World {
  /** Of the database, past all networks that fail. */
  readonly url: string
  /** For the nemesis and the checker. */
  readonly sql: postgres.Sql
  readonly server: OwnPostgres
  readonly disk: Disk | undefined
  readonly bouncer: PgBouncer | undefined
  readonly slots: Slot[]
  /** Where the sink writes. */
  readonly effects: string
  /** A pod that is up, by a number from 0 to 1; undefined where none is. */
  podBy(dice: number, fits?: (slot: Slot) => boolean): Slot | undefined
  leader(): Promise<Slot | undefined>
  say(line: string): void
}

export async function makeWorld(options: {
  folder: string
  pods: number
  /** Settings of the pods. */
  env?: Record<string, string>
  say(line: string): void
}): Promise<World> {
  const { folder, say } = options
  const disk = makeDisk()
  const server = await startOwnPostgres({
    ...(disk ? { dataDir: disk.folder } : {}),
    settings: { max_connections: '300', max_wal_size: '512MB', shared_buffers: '512MB' },
  })
  const url = withDatabase(server.url, (await createTemplate(server.url)).name)
  const sql = postgres(url, { max: 3, onnotice: () => {}, connection: { application_name: 'nemesis' } })
  atEnd(() => sql.end({ timeout: 1 }))
  await startAudit(sql)
  const bouncer = findPgBouncer() ? await startPgBouncer(url, 15) : undefined
  const sink = await startSink(join(folder, 'effects'))
  const slots: Slot[] = []
  for (let n = 0; n < options.pods; n++)
    slots.push(
      await keepPod({
        n,
        // The last one comes through PgBouncer, where there is one: no prepared statements, no calls.
        ...(bouncer && n === options.pods - 1 ? { url: bouncer.url, pooler: true } : { url, pooler: false }),
        env: { CHAOS_SINK: sink, ...options.env },
        folder,
        say,
      }),
    )
  await until('the pods to come up', () => slots.every((slot) => slot.pod !== undefined), 60_000)

  const up = () => slots.filter((slot) => slot.pod !== undefined && !slot.frozen)
  return {
    url,
    sql,
    server,
    disk,
    bouncer,
    slots,
    effects: join(folder, 'effects'),
    say,
    podBy(dice, fits = () => true) {
      const living = up().filter(fits)
      return living[Math.floor(dice * living.length)]
    },
    async leader() {
      const [row] = await sql<{ public_id: string }[]>`
        select public_id from fleet_q.leader_terms join fleet_q.pods on pods.id = pod_id
        where leader_terms.ended_at is null`
      return up().find((slot) => slot.pod?.id === row?.public_id)
    },
  }
}

async function startSink(file: string): Promise<string> {
  const child: ChildProcess = fork(join(import.meta.dirname, 'sink.ts'), [file], {
    execArgv: ['--import', 'tsx'],
  })
  atEnd(() => child.disconnect())
  const { port } = await new Promise<{ port: number }>((resolve, reject) => {
    child.once('message', (message) => resolve(message as { port: number }))
    child.once('exit', () => reject(new Error('the sink ended at its start')))
  })
  return `http://127.0.0.1:${port}`
}
