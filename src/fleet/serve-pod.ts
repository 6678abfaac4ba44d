import type { Keyring } from '../access/keyring.ts'
import type { TokenRole } from '../access/role.ts'
import { isLoopback, type Config } from '../config.ts'
import { FleetError } from '../errors.ts'
import { serveHttp } from '../http/listen.ts'
import type { Door } from '../http/routes/door.ts'
import { openDoors } from '../http/routes/doors.ts'
import { alivePage } from '../http/routes/health.ts'
import { metricsPage } from '../http/routes/metrics.ts'
import { createApp } from '../http/server.ts'
import type { Log } from '../kernel/log.ts'

/** Those of the settings, written as role:token; config.ts has seen to their form. */
export const configuredTokens = (config: Config) =>
  config.tokens.map((pair) => {
    const colon = pair.indexOf(':')
    return { role: pair.slice(0, colon) as TokenRole, token: pair.slice(colon + 1) }
  })

/** Without any token only loopback is served, unless somebody says that something else guards the door. */
export function refuseOpenDoor(config: Config, keyring: Keyring, log: Log): void {
  if (isLoopback(config.apiHost) || !keyring.isEmpty()) return
  if (!config.insecure)
    throw new FleetError(
      'config_invalid',
      `FLEET_Q_API_HOST: ${config.apiHost} can be reached from elsewhere, and there is no token. Make one (fleet-q ` +
        'token create --role admin), set FLEET_Q_TOKENS (say admin:<16 characters or more>), or FLEET_Q_INSECURE=1 if ' +
        'something else guards the door',
    )
  log.warn(
    { host: config.apiHost },
    'everybody who reaches this pod may do everything: it serves beyond this machine, there is no token, and FLEET_Q_INSECURE is set',
  )
}

export interface ServeOptions {
  config: Config
  door: Door
  keyring: Keyring
  log: Log
  /** For tests: an answer that does not fit its schema is an error. */
  checkAnswers: boolean
}

/** The pod's HTTP server. */
export function servePod({ config, door, keyring, log, checkAnswers }: ServeOptions) {
  const onlyHere = isLoopback(config.apiHost)
  const app = createApp({
    keyring,
    openAccess: onlyHere || config.insecure,
    hosts: onlyHere ? [] : 'any',
    rateLimit: config.rateLimit,
    proxyHops: config.proxyHops,
    log,
    version: door.version,
    handlers: openDoors(door),
    apiPrefix: config.apiPrefix,
    pages: [metricsPage(door), alivePage],
    observe: ({ operation, durationMs }) =>
      door.meters.httpSeconds.observe(operation ?? 'none', durationMs / 1000),
    checkAnswers,
  })
  return serveHttp(app, {
    host: config.apiHost,
    port: config.apiPort,
    onError: (error) => log.error({ err: error }, 'the server could not take a connection'),
  })
}
