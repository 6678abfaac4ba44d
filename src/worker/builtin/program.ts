import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'

export interface Program {
  /** The absolute path of the program, and its arguments as they are: no shell reads them. */
  readonly argv: readonly string[]
  readonly cwd: string
  /** All of its environment. */
  readonly env: Readonly<Record<string, string>>
  readonly uid: number | undefined
  readonly gid: number | undefined
  /** How long it may end by itself after SIGTERM. */
  readonly killAfterMs: number
  readonly onLine: (line: string, isError: boolean) => void
}

export interface Ended {
  readonly exitCode: number | null
  readonly exitSignal: NodeJS.Signals | null
  /** The last KEPT_BYTES_MAX of each. */
  readonly stdout: string
  readonly stderr: string
  readonly truncated: boolean
}

const KEPT_BYTES_MAX = 64 * 1024
const LINE_CHARS_MAX = 4096
/** How long what a program left behind in the background may hold its output open. */
const LINGER_MS = 1000

/** Runs a program to its end. An abort ends its whole process group, and then fails with the signal's reason. */
export async function runProgram(program: Program, signal: AbortSignal): Promise<Ended> {
  signal.throwIfAborted()
  const [file = '', ...args] = program.argv
  const { cwd, env, uid, gid, killAfterMs, onLine } = program
  return await new Promise<Ended>((done, failed) => {
    const child = spawn(file, args, {
      cwd,
      env,
      // A process group of its own, so that what it starts can be ended with it.
      detached: true,
      shell: false,
      stdio: ['ignore', 'pipe', 'pipe'],
      windowsHide: true,
      ...(uid === undefined ? {} : { uid }),
      ...(gid === undefined ? {} : { gid }),
    })
    const stdout = readTail(child.stdout, (line) => onLine(line, false))
    const stderr = readTail(child.stderr, (line) => onLine(line, true))
    const timers: NodeJS.Timeout[] = []
    const later = (ms: number, act: () => void) => timers.push(setTimeout(act, ms))

    const stop = () => {
      signalGroup(child.pid, 'SIGTERM')
      later(killAfterMs, () => signalGroup(child.pid, 'SIGKILL'))
    }
    signal.addEventListener('abort', stop, { once: true })
    const clear = () => {
      signal.removeEventListener('abort', stop)
      for (const timer of timers) clearTimeout(timer)
    }

    child.on('error', (error) => {
      clear()
      failed(error)
    })
    child.on('exit', () =>
      later(LINGER_MS, () => {
        signalGroup(child.pid, 'SIGKILL')
        // What has left the group may hold the pipes for ever.
        child.stdout.destroy()
        child.stderr.destroy()
      }),
    )
    child.on('close', (exitCode, exitSignal) => {
      clear()
      signalGroup(child.pid, 'SIGKILL')
      if (signal.aborted) return failed(signal.reason)
      const truncated = stdout.isCut() || stderr.isCut()
      return done({ exitCode, exitSignal, stdout: stdout.text(), stderr: stderr.text(), truncated })
    })
  })
}

function signalGroup(pid: number | undefined, name: NodeJS.Signals) {
  if (pid === undefined) return
  try {
    process.kill(-pid, name)
  } catch {
    // Nobody is left in the group.
  }
}

/** Keeps the end of a stream, where programs say how it went, and hands on its lines as they come. */
function readTail(stream: Readable, onLine: (line: string) => void) {
  let chunks: Buffer[] = []
  let keptBytes = 0
  let cut = false
  let partial = ''
  const decoder = new StringDecoder('utf8')

  const onText = (text: string) => {
    const [last = '', ...whole] = (partial + text).split('\n').toReversed()
    for (const line of whole.toReversed()) onLine(line.slice(0, LINE_CHARS_MAX).replace(/\r$/, ''))
    // A line without end goes out in pieces.
    for (partial = last; partial.length > LINE_CHARS_MAX; partial = partial.slice(LINE_CHARS_MAX))
      onLine(partial.slice(0, LINE_CHARS_MAX))
  }
  stream.on('data', (chunk: Buffer) => {
    onText(decoder.write(chunk))
    chunks.push(chunk)
    keptBytes += chunk.length
    if (keptBytes <= 2 * KEPT_BYTES_MAX) return
    chunks = [Buffer.concat(chunks).subarray(-KEPT_BYTES_MAX)]
    keptBytes = KEPT_BYTES_MAX
    cut = true
  })
  stream.on('end', () => {
    partial += decoder.end()
    if (partial !== '') onLine(partial)
  })
  stream.on('error', () => undefined)

  return {
    isCut: () => cut || keptBytes > KEPT_BYTES_MAX,
    text: () => textFrom(Buffer.concat(chunks).subarray(-KEPT_BYTES_MAX)),
  }
}

/** The bytes as text, without the rest of a character that the cut went through. */
function textFrom(bytes: Buffer): string {
  let start = 0
  while (start < 3 && ((bytes[start] ?? 0) & 0b1100_0000) === 0b1000_0000) start++
  return bytes.toString('utf8', start)
}
