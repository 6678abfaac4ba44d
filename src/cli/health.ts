import { parseArgs } from 'node:util'

const LIMIT_MS = 4000

/** For HEALTHCHECK and for people: one line, and an exit code. */
export async function health(args: string[], env: Record<string, string | undefined>): Promise<void> {
  const { values } = parseArgs({ args, options: { url: { type: 'string' } } })
  const url = values.url ?? baseUrl(env)
  try {
    const response = await fetch(`${url}/health`, { signal: AbortSignal.timeout(LIMIT_MS) })
    const body = (await response.json()) as Record<string, unknown>
    process.stdout.write(
      `${String(body['pod_id'])} is ${String(body['status'])}: ${String(body['current_capacity'])} of ${String(body['max_capacity'])} slots busy, database ${String(body['database'])}${body['is_leader'] === true ? ', leading' : ''}\n`,
    )
    process.exitCode = response.ok ? 0 : 1
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
    process.stderr.write(
      `No pod answers at ${url} (${cause instanceof Error ? cause.message : String(cause)}). Start one: fleet-q start\n`,
    )
    process.exitCode = 1
  }
}

/** Where this machine's pod listens, by the settings that it would read. */
export function baseUrl(env: Record<string, string | undefined>): string {
  const host = env['FLEET_Q_API_HOST'] ?? '127.0.0.1'
  const reachable = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${env['FLEET_Q_API_PORT'] ?? '8000'}`
}
