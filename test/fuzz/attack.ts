import fc from 'fast-check'
import { keepConnection } from './connection.ts'
import { faultOf } from './judge.ts'
import { createKnown } from './known.ts'
import { bytesOf, wishes, type Sent, type Wish } from './request.ts'

export interface Outcome {
  sent: number
  statuses: Map<number | 'closed', number>
  /** What was wrong, with the smallest request that shows it. */
  faults: string[]
}

/** A request under way, or answered a moment ago. */
export interface Recent extends Sent {
  endedAt: number
}

/** So many faults of one connection are enough to begin with. */
const FAULTS_MAX = 3
const RECENT_KEPT = 200

/** Over each connection one request after the other, all connections at once. */
export async function attack(options: {
  port: number
  seed: number
  cases: number
  connections: number
  recent: Recent[]
}): Promise<Outcome> {
  const { port, seed, connections, recent } = options
  const known = createKnown()
  const outcome: Outcome = { sent: 0, statuses: new Map(), faults: [] }

  async function lane(first: number): Promise<void> {
    const connection = keepConnection(port)
    const property = fc.asyncProperty(wishes, async (wish) => {
      const sent = bytesOf(wish, known.give)
      const entry = { ...sent, endedAt: Number.POSITIVE_INFINITY }
      recent.push(entry)
      if (recent.length > RECENT_KEPT) recent.shift()
      outcome.sent++
      const answer = await connection.ask(sent.bytes, sent.method === 'HEAD')
      entry.endedAt = performance.now()
      const status = answer?.status ?? 'closed'
      outcome.statuses.set(status, (outcome.statuses.get(status) ?? 0) + 1)
      if (answer && answer.status < 300) known.hear(answer.body.toString('utf8', 0, 20_000))
      const fault = faultOf(sent, answer)
      if (fault !== undefined) throw new Error(fault)
    })
    let left = Math.ceil(options.cases / connections)
    for (let found = 0; left > 0 && found < FAULTS_MAX; found++) {
      const own = first + found * 1_000_003
      const result = await fc.check(property, { seed: own, numRuns: left })
      left -= result.numRuns
      if (!result.failed) break
      const [wish] = result.counterexample ?? []
      outcome.faults.push(
        `${result.errorInstance instanceof Error ? result.errorInstance.message : 'failed'}\n${wish ? inWords(wish, known.give) : ''}`,
      )
    }
    connection.close()
  }

  await Promise.all(Array.from({ length: connections }, (_, i) => lane(seed + i)))
  return outcome
}

function inWords(wish: Wish, give: (name: string, pick: number) => string): string {
  const { bytes } = bytesOf(wish, give)
  return `the request, ${bytes.length} bytes:\n${printable(bytes)}\nas it was drawn: ${JSON.stringify(wish).slice(0, PRINTED_BYTES)}`
}

const PRINTED_BYTES = 1500

/** To be sent again: printf '...' | nc HOST PORT. */
export const printable = (bytes: Buffer) =>
  `printf '${bytes
    .toString('latin1', 0, PRINTED_BYTES)
    .replaceAll(
      /[^ -~]|['\\%]/g,
      (unit) => `\\x${unit.charCodeAt(0).toString(16).padStart(2, '0')}`,
    )}'${bytes.length > PRINTED_BYTES ? ` (its first ${PRINTED_BYTES} bytes)` : ''}`
