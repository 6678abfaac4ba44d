import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fillByBatches, type Adapter } from './adapter.ts'
import { createProducer, createWorker, load, PROFILES } from './bullmq.ts'
import { peersFolder } from './peers.ts'

/** BullMQ on Redis, with the append-only file that https://docs.bullmq.io/guide/going-to-production asks for. */

const FOLDER = join(peersFolder, '../bench/redis')
const READY_MS = 5000
let address: Promise<string> | undefined

/** One server for the whole run; it ends with the bench. */
async function startRedis(): Promise<string> {
  const port = await freePort()
  rmSync(FOLDER, { recursive: true, force: true })
  mkdirSync(FOLDER, { recursive: true })
  const settings = {
    port,
    bind: '127.0.0.1',
    dir: FOLDER,
    save: '',
    appendonly: 'yes',
    appendfsync: 'everysec',
  }
  const server = spawn(
    'redis-server',
    Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]),
    { stdio: 'ignore' },
  )
  process.once('exit', () => server.kill('SIGKILL'))
  server.unref()
  for (const until = performance.now() + READY_MS; !(await answers(port)); await sleep(20))
    if (performance.now() > until) throw new Error(`redis-server did not answer within ${READY_MS / 1000} s`)
  return `redis://127.0.0.1:${port}`
}

const freePort = () =>
  new Promise<number>((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const bound = probe.address()
      probe.close(() => resolve(typeof bound === 'object' && bound ? bound.port : 0))
    })
  })

const answers = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const end = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
  })

function connectionTo(url: string) {
  const { hostname, port } = new URL(url)
  // As the documentation wants it for workers.
  return { host: hostname, port: Number(port), maxRetriesPerRequest: null }
}

const none = () => Promise.resolve()

export const bullmqRedis: Adapter = {
  name: 'bullmq-redis',
  store: 'redis',
  less: 'not on Postgres; an answer may be a second ahead of the disk (appendfsync everysec)',
  profiles: PROFILES,
  drainJobs: 40_000,
  unavailable() {
    try {
      execFileSync('redis-server', ['--version'], { stdio: 'ignore' })
      return Promise.resolve(undefined)
    } catch {
      return Promise.resolve('there is no redis-server on this machine')
    }
  },
  load,
  prepare: none,
  fill: none,
  async renew(jobs) {
    const url = await (address ??= startRedis())
    const { Queue } = await load()
    const queue = new Queue('job', { connection: connectionTo(url) })
    await queue.obliterate({ force: true })
    await queue.close()
    await fillByBatches(await bullmqRedis.produce(url, 'throughput'), jobs)
    return url
  },
  work: ({ url, profile, onJob, settings = {} }) => createWorker(connectionTo(url), profile, onJob, settings),
  produce: (url) => createProducer(connectionTo(url)),
  inspect(url) {
    const queue = load().then(({ Queue }) => new Queue('job', { connection: connectionTo(url) }))
    const count = async (...states: string[]) => {
      const counts = await (await queue).getJobCounts(...states)
      return Object.values(counts).reduce((sum, each) => sum + each, 0)
    }
    return {
      settled: async (jobs) => (await count('completed')) >= jobs,
      tally: async () => ({
        ended: await count('completed'),
        left: await count('waiting', 'active', 'delayed', 'prioritized', 'paused'),
        wrong: await count('failed'),
      }),
      close: async () => (await queue).close(),
    }
  },
}
