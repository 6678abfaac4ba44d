import type { Config } from '../config.ts'
import { connectApart } from '../db/apart.ts'
import { connect } from '../db/connect.ts'
import { inWords } from '../db/words.ts'
import type { Log } from '../kernel/log.ts'

interface PoolsOptions {
  url: string
  config: Config
  publicId: string
  log: Log
}

/** The connections of a pod. Apart, so that slow questions of people cannot starve the work. */
export function openPools({ url, config, publicId, log }: PoolsOptions) {
  const connectionName = (part: string) => `fleet-q ${part} ${publicId}`.slice(0, 63)
  const way = (name: string, deadlineMs: number) => ({
    url,
    name: connectionName(name),
    pooler: config.databasePooler,
    deadlineMs,
    onDiscard: (reason: string) => log.warn({ pool: name, reason }, 'connections were given up'),
  })
  const pool = (name: string, max: number, deadlineMs: number) => connect({ ...way(name, deadlineMs), max })
  const work = pool('work', Math.max(2, Math.ceil(config.databasePoolMax / 2)), 10_000)
  const asked = pool('door', Math.max(1, Math.floor(config.databasePoolMax / 2)), 5000)
  /** The same, whose failures are told in our words. */
  const door = inWords(asked)
  // One connection, because what is sent on it keeps its order.
  const shared = pool('submits', 1, 5000)
  // A handler's transaction has a connection to itself.
  const transactions = connectApart({
    ...way('transactions', 10_000),
    // The number stands in front: a long name of a pod is cut off at its end.
    nameOf: (n) => connectionName(`transactions ${n}`),
    asked: work,
    askedName: connectionName('work'),
  })
  return { work, asked, door, shared, transactions, connectionName, all: [work, door, shared, transactions] }
}
