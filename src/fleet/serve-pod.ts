import { isLoopback, type Config } from '../config.ts'
import type { TokenRole } from '../http/endpoint.ts'
import { serveHttp } from '../http/listen.ts'
import type { Door } from '../http/routes/door.ts'
import { fleetDoor } from '../http/routes/fleet-door.ts'
import { metricsPage } from '../http/routes/metrics.ts'
import { createApp } from '../http/server.ts'
import type { Log } from '../kernel/log.ts'

/** The pod's HTTP server. Without a token only loopback is served; config.ts has seen to that. */
export function servePod(config: Config, door: Door, log: Log, checkAnswers: boolean) {
  const tokens = config.tokens.map((pair) => {
    const colon = pair.indexOf(':')
    return { role: pair.slice(0, colon) as TokenRole, token: pair.slice(colon + 1) }
  })
  const app = createApp({
    tokens,
    openAccess: tokens.length === 0,
    hosts: isLoopback(config.apiHost) ? [] : 'any',
    log,
    version: door.version,
    handlers: fleetDoor(door),
    pages: [metricsPage(door)],
    checkAnswers,
  })
  return serveHttp(app, {
    host: config.apiHost,
    port: config.apiPort,
    onError: (error) => log.error({ err: error }, 'the server could not take a connection'),
  })
}
