import { connect, createServer, type Socket } from 'node:net'
import { atEnd } from './cleanup.ts'

/** A connection through the proxy, as its two ends see it. */
export interface Link {
  /** The application_name that the client gave: tells a pod's pools apart. Empty until it has said it. */
  readonly name: string
  /** The name of the statement that the client sent last: what stands in its comment. */
  readonly statement: string
}

/** A network between a pod and its database that fails when it is told to. */
export interface DatabaseProxy {
  /** The same database, seen through the proxy. */
  readonly url: string
  /** Living connections through it. */
  readonly links: number
  /** Bytes go through; what was half-open stays so: nobody tells its ends. */
  pass(): void
  /** Each chunk takes so long, each way: those of a connection stay in their order. */
  delay(ms: number): void
  /** A few bytes come at a time, so long apart: those of a connection stay in their order. */
  drip(ms: number): void
  /**
   * Drops all bytes, without a word to either end: half-open. Connections that live now stay dead for ever, as
   * after a firewall has forgotten them; new ones are accepted and hear nothing until `pass`. With `which`, only those
   * of this kind, as far as they live now.
   */
  blackhole(way?: 'both' | 'to server' | 'to client', which?: (link: Link) => boolean): void
  /** Nobody listens any more: new connections are refused until `pass`; those that live go on. */
  refuse(): Promise<void>
  /** Resets (RST) the connections that live now: all, or those of this kind. */
  reset(which?: (link: Link) => boolean): void
  /** Closes (FIN) the connections that live now. */
  cut(which?: (link: Link) => boolean): void
  /** Once: this comes in front of an answer, in one piece with it. */
  sayFirst(message: Buffer): void
  /**
   * Once: the first answer of the server that fits is swallowed and its connection reset. What the answer tells
   * has happened on the server; the client will never know from it. Fulfilled when that was done.
   */
  swallowAnswer(fits: (answer: Buffer, link: Link) => boolean): Promise<void>
  close(): Promise<void>
}

/** The server says so after a commit, never before. */
export const saysCommitted = (answer: Buffer): boolean => answer.includes('C\0\0\0\u000bCOMMIT\0')

/** The server is done with a statement, and this is not only the answer to its preparation. */
export const saysDone = (answer: Buffer): boolean =>
  /C\0\0\0.(SELECT|INSERT|UPDATE|DELETE)/s.test(answer.toString('latin1'))

const DRIP_BYTES = 64
const rest = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
/** What a server says that is in no transaction, and waits for a question. */
export const READY_FOR_QUERY = Buffer.from('Z\0\0\0\u0005I', 'latin1')
/** A row without columns. */
export const EMPTY_ROW = Buffer.from('D\0\0\0\u0006\0\0', 'latin1')

interface Pair extends Link {
  name: string
  statement: string
  client: Socket
  server: Socket
  dead: { toServer: boolean; toClient: boolean }
}

export async function startProxy(databaseUrl: string): Promise<DatabaseProxy> {
  const target = new URL(databaseUrl)
  const pairs = new Set<Pair>()
  let delayMs = 0
  let dripMs = 0
  let hole = { toServer: false, toClient: false }
  let early: Buffer | undefined
  const swallows = new Set<{ fits: (answer: Buffer, link: Link) => boolean; done: () => void }>()

  const server = createServer({ noDelay: true }, (client) => {
    const upstream = connect({ host: target.hostname, port: Number(target.port), noDelay: true })
    const pair: Pair = { name: '', statement: '', client, server: upstream, dead: { ...hole } }
    const follow = statementReader()
    pairs.add(pair)
    const toServer = line(upstream)
    const toClient = line(client)
    client.on('data', (chunk: Buffer) => {
      if (pair.name === '') pair.name = nameIn(chunk)
      else pair.statement = follow(chunk) ?? pair.statement
      if (!pair.dead.toServer) toServer(chunk)
    })
    upstream.on('data', (chunk: Buffer) => {
      if (pair.dead.toClient) return
      for (const swallow of swallows)
        if (swallow.fits(chunk, pair)) {
          swallows.delete(swallow)
          drop(pair, 'reset')
          return swallow.done()
        }
      toClient(early ? Buffer.concat([early, chunk]) : chunk)
      early = undefined
    })
    // A half-open connection: what one end does, the other never hears.
    client.on('end', () => pair.dead.toServer || toServer('end'))
    upstream.on('end', () => pair.dead.toClient || toClient('end'))
    for (const socket of [client, upstream]) {
      socket.on('error', () => {})
      socket.on('close', () => {
        if (pair.dead.toServer || pair.dead.toClient) return
        pairs.delete(pair)
        client.destroy()
        upstream.destroy()
      })
    }
  })

  /** One way of a connection: what comes keeps its place behind what is delayed, or drips, also when that is over. */
  function line(to: Socket): (chunk: Buffer | 'end') => void {
    let last: Promise<void> | undefined
    async function send(chunk: Buffer | 'end') {
      if (chunk === 'end') to.end()
      else if (dripMs === 0) to.write(chunk)
      else
        for (let at = 0; at < chunk.length && !to.destroyed; at += DRIP_BYTES) {
          to.write(chunk.subarray(at, at + DRIP_BYTES))
          await rest(dripMs)
        }
    }
    return (chunk) => {
      if (!last && delayMs === 0 && dripMs === 0) return void send(chunk)
      const mine = Promise.all([last, rest(delayMs)]).then(() => send(chunk))
      last = mine
      void mine.then(() => {
        if (last === mine) last = undefined
      })
    }
  }

  function drop(pair: Pair, how: 'reset' | 'cut') {
    pairs.delete(pair)
    for (const socket of [pair.client, pair.server])
      if (how === 'reset') socket.resetAndDestroy()
      else socket.destroy()
  }

  const listenAt = (port: number) =>
    new Promise<number>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, '127.0.0.1', () => {
        const address = server.address()
        resolve(typeof address === 'object' && address !== null ? address.port : port)
      })
    })
  const port = await listenAt(0)
  const through = new URL(databaseUrl)
  through.hostname = '127.0.0.1'
  through.port = String(port)

  const proxy: DatabaseProxy = {
    url: through.href,
    get links() {
      return pairs.size
    },
    pass() {
      delayMs = 0
      dripMs = 0
      hole = { toServer: false, toClient: false }
      // The ends of what died find out when they next try, from our side as from a router that forgot them.
      for (const pair of pairs) if (pair.dead.toServer || pair.dead.toClient) pair.server.destroy()
      if (!server.listening) server.listen(port, '127.0.0.1')
    },
    delay(ms) {
      delayMs = ms
    },
    drip(ms) {
      dripMs = ms
    },
    blackhole(way = 'both', which) {
      const now = { toServer: way !== 'to client', toClient: way !== 'to server' }
      if (!which) hole = now
      for (const pair of pairs)
        if (!which || which(pair))
          pair.dead = {
            toServer: pair.dead.toServer || now.toServer,
            toClient: pair.dead.toClient || now.toClient,
          }
    },
    refuse: () =>
      new Promise((resolve) => {
        // Only the listening socket: `close` calls back when the last connection has ended, so do not wait for that.
        server.close()
        resolve()
      }),
    reset(which = () => true) {
      for (const pair of pairs) if (which(pair)) drop(pair, 'reset')
    },
    cut(which = () => true) {
      for (const pair of pairs) if (which(pair)) drop(pair, 'cut')
    },
    sayFirst(message) {
      early = message
    },
    swallowAnswer: (fits) =>
      new Promise((done) => {
        swallows.add({ fits, done })
      }),
    async close() {
      for (const pair of pairs) drop(pair, 'reset')
      if (server.listening) await new Promise((resolve) => server.close(resolve))
    },
  }
  atEnd(() => proxy.close())
  return proxy
}

/** The start-up message is pairs of words, each ended by a zero byte. */
function nameIn(startup: Buffer): string {
  const words = startup.toString('latin1').split('\0')
  const at = words.indexOf('application_name')
  return at < 0 ? '?' : (words[at + 1] ?? '?')
}

/** Follows what a client sends: a prepared statement shows its text once, and is known by a number after that. */
function statementReader(): (chunk: Buffer) => string | undefined {
  const names = new Map<string, string>()
  let rest = Buffer.alloc(0)
  return (chunk) => {
    rest = Buffer.concat([rest, chunk])
    let last: string | undefined
    while (rest.length >= 5 && rest.length > rest.readUInt32BE(1)) {
      const end = 1 + rest.readUInt32BE(1)
      const [kind, words] = [String.fromCharCode(rest[0] ?? 0), rest.toString('latin1', 5, end).split('\0')]
      const name = /\/\* ([a-z_.]+) \*\//.exec(words.join(' '))?.[1] ?? ''
      if (kind === 'P') names.set(words[0] ?? '', name)
      if (kind === 'B') last = names.get(words[1] ?? '')
      if (kind === 'Q') last = name
      rest = rest.subarray(end)
    }
    return last
  }
}
