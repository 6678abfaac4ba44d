import { connect as connectTo, createServer, type Socket } from 'node:net'
import { connect, type Database } from '../../src/db/connect.ts'
import { atEnd } from '../support/cleanup.ts'

/** A database whose statements wait at a gate, one by one, until they are let through. */
export interface Gate {
  readonly database: Database
  /** Its name in pg_stat_activity. */
  readonly name: string
  /** What waits: the name of a statement, or "commit". */
  readonly waiting: string | undefined
  letThrough(): void
}

/**
 * Works on what is sent over the wire, so that the product's own functions run as they are. Only what changes or locks
 * something is held up, and the commit after it: the order of the rest changes nothing. A statement that needs no
 * transaction gets one here, so that the other side can also come between it and its end.
 */
export async function openGate(url: string, name: string, gated: ReadonlySet<string>): Promise<Gate> {
  const target = new URL(url)
  const held: { frame: Buffer; stopsAt: string | undefined }[] = []
  let upstream: Socket | undefined

  function flow() {
    while (held[0] && held[0].stopsAt === undefined) upstream?.write(held.shift()?.frame ?? '')
  }

  const server = createServer({ noDelay: true }, (client) => {
    const own = connectTo({ host: target.hostname, port: Number(target.port), noDelay: true })
    upstream = own
    held.length = 0
    const read = frameReader()
    let isDirty = false
    client.on('data', (chunk: Buffer) => {
      for (const { frame, statement } of read(chunk)) {
        const stops = statement !== undefined && (gated.has(statement) || (statement === 'commit' && isDirty))
        if (statement !== undefined) isDirty = statement !== 'commit' && (isDirty || stops)
        held.push({ frame, stopsAt: stops ? statement : undefined })
      }
      flow()
    })
    own.on('data', (chunk: Buffer) => client.write(chunk))
    for (const [one, other] of [
      [client, own],
      [own, client],
    ] as const) {
      one.on('error', () => {})
      one.on('close', () => other.destroy())
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const through = new URL(url)
  through.hostname = '127.0.0.1'
  through.port = String(typeof address === 'object' && address ? address.port : 0)
  const database = connect({ url: through.href, name, max: 1, pooler: false, deadlineMs: 20_000 })
  atEnd(async () => {
    await database.close()
    server.close()
  })
  return {
    database: { ...database, run: database.begin },
    name,
    get waiting() {
      return held[0]?.stopsAt
    },
    letThrough() {
      const [first] = held
      if (first) first.stopsAt = undefined
      flow()
    },
  }
}

/** The messages of a client, each with the name of the statement that it sets going. */
function frameReader() {
  const names = new Map<string, string>()
  let rest = Buffer.alloc(0)
  let started = false
  return (chunk: Buffer): { frame: Buffer; statement: string | undefined }[] => {
    rest = Buffer.concat([rest, chunk])
    const frames: { frame: Buffer; statement: string | undefined }[] = []
    for (;;) {
      // The first message has no letter in front.
      const head = started ? 1 : 0
      if (rest.length < head + 4) return frames
      const end = head + rest.readUInt32BE(head)
      if (rest.length < end) return frames
      const frame = rest.subarray(0, end)
      rest = rest.subarray(end)
      frames.push({ frame, statement: started ? statementOf(frame) : undefined })
      started = true
    }
  }

  function statementOf(frame: Buffer): string | undefined {
    const kind = String.fromCharCode(frame[0] ?? 0)
    const words = frame.toString('latin1', 5).split('\0')
    if (kind === 'P') names.set(words[0] ?? '', nameOf(words[1] ?? ''))
    if (kind === 'B') return names.get(words[1] ?? '')
    if (kind === 'Q') return nameOf(words[0] ?? '')
    return undefined
  }
}

const nameOf = (text: string) => /\/\* ([a-z_.]+) \*\//.exec(text)?.[1] ?? text.trim().toLowerCase()
