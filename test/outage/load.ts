import assert from 'node:assert/strict'
import { post, type Reply } from '../support/http.ts'

/** Clients that do not give up: each step has a key, and is sent again until it is accepted. */
export interface Load {
  /** Of every step that was accepted. */
  readonly ids: ReadonlySet<string>
  /** Answers other than 2xx so far. */
  readonly refusals: readonly Reply[]
  /** Fulfilled when each client has had its last step accepted. */
  stop(): Promise<void>
}

const CLIENTS = 4
const REST_MS = 20

export function startLoad(
  urls: string[],
  step: { type: string; args: object } & Record<string, unknown>,
): Load {
  const ids = new Set<string>()
  const refusals: Reply[] = []
  const run = Math.random().toString(36).slice(2)
  let stopped = false
  let sent = 0

  async function client() {
    while (!stopped) {
      const n = sent++
      for (let time = 0; ; time++) {
        const url = urls[(n + time) % urls.length] ?? ''
        const reply = await post(url, '/submit', step, { 'idempotency-key': `${run} ${n}` })
        if (reply.status === 201 || reply.status === 200) {
          ids.add(String(reply.body['step_id']))
          break
        }
        refusals.push(reply)
        await new Promise((resolve) => setTimeout(resolve, REST_MS))
      }
      await new Promise((resolve) => setTimeout(resolve, REST_MS))
    }
  }

  const clients = Promise.all(Array.from({ length: CLIENTS }, client))
  return {
    ids,
    refusals,
    async stop() {
      stopped = true
      await clients
    },
  }
}

/** What a submit answers while the database is away. */
export function assertAway({ status, headers, body }: Reply) {
  assert.equal(status, 503, JSON.stringify(body))
  assert.ok(Number(headers.get('retry-after')) >= 1, 'it says nothing of when to come again')
  assert.equal(body['error_type'], 'database_unavailable')
  assert.equal(body['error'], body['detail'])
  assert.equal(body['path'], '/submit')
  assert.equal(body['request_id'], headers.get('x-request-id'))
  assert.doesNotMatch(JSON.stringify(body), /ECONN|postgres:|127\.0\.0\.1|stack/)
}
