import { connect, type Socket } from 'node:net'

export interface Answer {
  status: number
  headers: Map<string, string>
  body: Buffer
}

/** Past this nobody waits for an answer any more: a bound, not a measure. */
const ANSWER_LIMIT_MS = 30_000

/**
 * The server closes a kept connection after 5 s of silence: who was starved for long does not send into that moment. He
 * knows by the clock of the answer, in whole seconds, and not by when he came to read it.
 */
const SILENCE_MS_MAX = 3000

/** One kept connection, over which bytes are sent as they are; a new one where the server has closed it. */
export function keepConnection(port: number) {
  let socket: Socket | undefined
  let answeredAt = Number.NaN

  return {
    /** Undefined: the connection was closed without an answer. Fails where more comes than one answer. */
    ask(bytes: Buffer, isHead: boolean): Promise<Answer | undefined> {
      if (Date.now() - answeredAt > SILENCE_MS_MAX) {
        socket?.destroy()
        socket = undefined
      }
      const own = (socket ??= connect(port, '127.0.0.1').setNoDelay(true))
      let got: Buffer = Buffer.alloc(0)
      return new Promise((resolve, reject) => {
        const end = (settle: () => void, keeps: boolean) => {
          clearTimeout(limit)
          own.removeAllListeners()
          own.on('error', () => {})
          if (!keeps) {
            socket = undefined
            own.destroy()
          }
          settle()
        }
        const limit = setTimeout(() => end(() => reject(new Error('no answer came')), false), ANSWER_LIMIT_MS)
        own.on('data', (chunk) => {
          got = got.length === 0 ? chunk : Buffer.concat([got, chunk])
          const read = readAnswer(got, isHead)
          if (read === 'more') return
          if (read === 'broken')
            return end(() => reject(new Error(`no answer of HTTP: ${got.toString('latin1', 0, 300)}`)), false)
          if (read.rest > 0) return end(() => reject(new Error('two answers to one request')), false)
          answeredAt = Date.parse(read.answer.headers.get('date') ?? '')
          const keeps = read.answer.headers.get('connection')?.toLowerCase() !== 'close'
          end(() => resolve(read.answer), keeps)
        })
        own.on('error', () => end(() => resolve(undefined), false))
        own.on('close', () => end(() => resolve(undefined), false))
        own.write(bytes)
      })
    },
    close: () => void socket?.destroy(),
  }
}

function readAnswer(got: Buffer, isHead: boolean): 'more' | 'broken' | { answer: Answer; rest: number } {
  const end = got.indexOf('\r\n\r\n')
  if (end === -1) return 'more'
  const [first = '', ...lines] = got.toString('latin1', 0, end).split('\r\n')
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(first)?.[1])
  if (!status) return 'broken'
  const from = end + 4
  // Expect: 100-continue has an answer before the answer.
  if (status < 200) return readAnswer(got.subarray(from), isHead)
  const headers = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const
    }),
  )
  const length = Number(headers.get('content-length') ?? Number.NaN)
  if (!Number.isInteger(length)) return 'broken'
  // A request that was refused before its method was read is answered with a body; the connection ends behind it.
  const closes = headers.get('connection') === 'close'
  if (isHead && closes) return { answer: { status, headers, body: got.subarray(from) }, rest: 0 }
  const size = isHead ? 0 : length
  if (got.length < from + size) return 'more'
  return {
    answer: { status, headers, body: got.subarray(from, from + size) },
    rest: got.length - from - size,
  }
}
