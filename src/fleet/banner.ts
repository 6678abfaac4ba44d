import { relative } from 'node:path'
import type { LocalPostgres } from '../db/local/start.ts'
import { durationText } from '../kernel/duration.ts'
import type { Pod } from './start-pod.ts'
import { VERSION } from './version.ts'

export interface BannerFacts {
  pod: Pod
  local: LocalPostgres | undefined
  startMs: number
}

/** What a newcomer sees first: what was started, where it lies, and a line that works when it is pasted. */
export function banner({ pod, local, startMs }: BannerFacts): string {
  const { host, port } = pod.address
  const url = `http://${host.includes(':') ? `[${host}]` : host === '0.0.0.0' ? '127.0.0.1' : host}:${port}`
  const token = pod.needsToken ? ` -H 'authorization: Bearer <token>'` : ''
  const types =
    pod.types.length > 0 ? pod.types.join(', ') : 'none: set FLEET_Q_HANDLERS to a folder of yours'
  const lines = [
    '',
    `  fleet-q ${VERSION}   node ${process.versions.node}   up in ${durationText(startMs)}`,
    '',
    `  database   ${databaseLine(local)}`,
    ...(local ? [`             ${psqlLine(local)}`] : []),
    `  schema     fleet_q, ${pod.migrated.length > 0 ? `brought up to date (${pod.migrated.length} migrations)` : 'up to date'}`,
    `  pod        ${pod.id}, ${pod.capacity} slots`,
    `  steps      ${types}`,
    `  API        ${url}      reference: ${url}/docs`,
    '',
    '  Try:',
    `    curl -X POST ${url}/submit${token} -H 'content-type: application/json' -d '{"type":"hello_world","args":{"name":"Ada"}}'`,
    '',
    `  Ctrl-C stops this pod${local ? '; the data is kept' : ''}.`,
    '',
  ]
  return `${lines.join('\n')}\n`
}

const shownFolder = ({ dataDir }: LocalPostgres): string => {
  const shown = relative(process.cwd(), dataDir)
  return shown.startsWith('..') ? dataDir : `./${shown}`
}

/** The password stays in its file: what a terminal prints ends in logs. */
function psqlLine(local: LocalPostgres): string {
  const { hostname, port, username, pathname } = new URL(local.url)
  return `PGPASSWORD=$(cat ${shownFolder(local)}/password) psql -h ${hostname} -p ${port} -U ${username} ${pathname.slice(1)}`
}

function databaseLine(local: LocalPostgres | undefined): string {
  if (!local) return 'yours (DATABASE_URL)'
  const where = shownFolder(local)
  return local.started
    ? `Postgres ${local.version} of its own, started in ${where} (${durationText(local.startMs)}); for development: set DATABASE_URL to use yours`
    : `Postgres ${local.version} in ${where}, shared with a pod that runs already`
}
