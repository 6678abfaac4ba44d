import type { PodProcess } from '../support/processes.ts'
import { until } from '../support/until.ts'
import { printable, type Recent } from './attack.ts'
import { keepConnection } from './connection.ts'
import { PAGES, places } from './contract.ts'
import { bytesOf, tokenOf } from './request.ts'

/** What a pod holds after everything that was sent, beside what V8 may have. */
const RESIDENT_MB_MAX = 600
/** Of a moment before the loop was found blocked. */
const SUSPECT_MS = 500
const SUSPECTS_MAX = 100

export interface LoopWatch {
  /** Requests around the moments in which the loop was blocked. */
  suspects: Map<string, Recent>
  /** Lines of the pod before this belong to its start. */
  from: number
}

const ask = async (port: number, method: string, path: string, body?: string) => {
  const connection = keepConnection(port)
  const wish = {
    method,
    target: [{ text: path }],
    headers: [],
    role: 'admin',
    body,
    spoilt: undefined,
    chunk: undefined,
  }
  const answer = await connection.ask(bytesOf(wish, () => '').bytes, false)
  connection.close()
  return answer
}

/** Pages are made when first asked for, and code is compiled when first run: that is behind us. */
export async function watchLoop(pod: PodProcess, port: number, recent: Recent[]): Promise<LoopWatch> {
  for (const page of PAGES) await ask(port, 'GET', page)
  for (const { method, path } of places)
    if (method === 'GET') await ask(port, method, path.replaceAll(/[{}]/g, ''))
  await lineOfWatch(pod)
  const watch: LoopWatch = { suspects: new Map(), from: pod.output().length }
  pod.child.stderr?.on('data', (chunk: Buffer) => {
    if (!chunk.includes('blocked for')) return
    const since = performance.now() - SUSPECT_MS
    for (const one of recent) if (one.endedAt > since) watch.suspects.set(one.bytes.toString('latin1'), one)
  })
  return watch
}

async function lineOfWatch(pod: PodProcess): Promise<string> {
  const from = pod.output().length
  pod.signal('SIGUSR2')
  return until(
    'the word of the loop watch',
    () => /loop-watch: longest.*/.exec(pod.output().slice(from))?.[0],
  )
}

/** What must be so after any attack: each breach in a sentence. */
export async function settle(pod: PodProcess, port: number, watch: LoopWatch, say: (line: string) => void) {
  const { exitCode, signalCode } = pod.child
  if (exitCode !== null || signalCode !== null)
    return [`the pod ended (${exitCode ?? signalCode}):\n${pod.output().slice(-3000)}`]
  const faults: string[] = []
  const line = await lineOfWatch(pod)
  say(line)
  const resident = Number(/(\d+) MB resident/.exec(line)?.[1])
  if (resident > RESIDENT_MB_MAX) faults.push(`the pod holds ${resident} MB of memory`)
  faults.push(...loudLines(pod.output().slice(watch.from)))
  if (pod.output().includes(tokenOf(''))) faults.push('a token stands in what the pod printed')
  faults.push(...(await blockedAlone(pod, port, watch, say)))
  await ask(port, 'POST', `/admin/pods/${pod.id}/drain`, '{"enabled":false}')
  await until('the pod to be ready', async () => (await ask(port, 'GET', '/readyz'))?.status === 200)
  return faults
}

function loudLines(output: string): string[] {
  const loud = output
    .split('\n')
    .filter((line) => /"level":"(error|fatal)"|unhandled|uncaught|Warning:/i.test(line))
  return loud.length === 0
    ? []
    : [`${loud.length} lines that must not be, the first: ${loud[0]?.slice(0, 1000)}`]
}

/**
 * Several requests may share a turn, and a neighbour on the machine may slow it: what is at fault blocks the loop alone,
 * each time that it is sent.
 */
async function blockedAlone(
  pod: PodProcess,
  port: number,
  { suspects, from }: LoopWatch,
  say: (line: string) => void,
): Promise<string[]> {
  const blocked = [
    ...pod
      .output()
      .slice(from)
      .matchAll(/blocked for (\d+) ms/g),
  ].map(([, ms]) => `${ms} ms`)
  if (blocked.length === 0) return []
  say(
    `turns over 100 ms: ${blocked.join(', ')}; ${suspects.size} requests of those moments are sent again, alone`,
  )
  const largest = [...suspects.values()].toSorted((a, b) => b.bytes.length - a.bytes.length)
  const faults: string[] = []
  for (const { bytes, method } of largest.slice(0, SUSPECTS_MAX)) {
    const times: string[] = []
    for (let i = 0; i < 3; i++) {
      const before = pod.output().length
      const connection = keepConnection(port)
      await connection.ask(bytes, method === 'HEAD')
      connection.close()
      await lineOfWatch(pod)
      const again = /blocked for (\d+ ms)/.exec(pod.output().slice(before))
      if (!again) break
      times.push(again[1] ?? '')
    }
    if (times.length === 3) faults.push(`it blocks the loop for ${times.join(', ')}: ${printable(bytes)}`)
  }
  return faults
}
