import postgres from 'postgres'
import type { Service } from '../kernel/service.ts'
import { wayTo } from './tls.ts'

export interface ListenOptions {
  url: string
  name: string
  channel: string
  onMessage(payload: string): void
  /** Called at each (re)connection: what was said meanwhile was lost, so look for yourself. */
  onConnect(): void
  onError(error: unknown): void
}

/**
 * LISTEN as a doorbell: it wakes loops and is never the truth. A notification sent while the connection was away is
 * lost (measured), a half-open connection hears nothing and does not know it; polling alone must be correct.
 */
export function listen({ url, name, channel, onMessage, onConnect, onError }: ListenOptions): Service {
  let sql: postgres.Sql | undefined
  let stopped = false
  let again: NodeJS.Timeout | undefined

  async function attempt(restMs: number): Promise<void> {
    if (stopped) return
    const way = wayTo(url)
    sql = postgres(way.url, {
      ...way.place,
      ssl: way.ssl,
      max: 1,
      onnotice: () => {},
      connect_timeout: 5,
      backoff: (times) => Math.min(0.1 * 2 ** times, 2),
      connection: { application_name: name },
    })
    try {
      await sql.listen(channel, onMessage, onConnect)
    } catch (error) {
      onError(error)
      void sql.end({ timeout: 0 }).catch(() => {})
      if (!stopped) again = setTimeout(() => void attempt(Math.min(restMs * 2, 5000)), restMs)
    }
  }

  return {
    name: 'listen',
    // Not awaited by the pod's start: work does not depend on it.
    start: () => void attempt(250),
    async stop() {
      stopped = true
      clearTimeout(again)
      await sql?.end({ timeout: 1 }).catch(() => {})
    },
  }
}
