import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Answer, Argument, Asked, Name, Told } from './calls.ts'

/** A process of the bench, as the bench sees it. */
export interface Spawned {
  readonly pid: number
  /** As it has told so far; at most 5 ms old. */
  readonly handled: number
  ask<N extends Name>(name: N, argument: Argument<N>): Promise<Answer<N>>
  kill(): Promise<void>
}

const CHILD = join(import.meta.dirname, 'child.ts')
const LINES_KEPT = 20

/** Under the same Node, which reads our TypeScript itself: no loader stands between a pod and its code. */
export async function spawnChild(): Promise<Spawned> {
  const child = fork(CHILD, [], {
    serialization: 'advanced',
    execArgv: ['--no-warnings'],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: childEnvironment(),
  })
  const said: string[] = []
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (text: Buffer) => {
      said.push(...String(text).trim().split('\n'))
      said.splice(0, said.length - LINES_KEPT)
    })
  await Promise.race([
    once(child, 'spawn'),
    once(child, 'error').then(([error]) => Promise.reject(error as Error)),
  ])
  return converse(child, said)
}

/** Settings of the shell must not make one contender faster than it says. */
function childEnvironment(): NodeJS.ProcessEnv {
  const { PATH, HOME, TMPDIR, TZ } = process.env
  return { PATH, HOME, TMPDIR, TZ, NODE_ENV: 'production' }
}

function converse(child: ChildProcess, said: string[]): Spawned {
  interface Waiting {
    resolve(answer: unknown): void
    reject(error: Error): void
  }
  const waiting = new Map<number, Waiting>()
  let asked = 0
  let handled = 0
  let ended: Error | undefined

  child.on('message', (told: Told) => {
    if ('handled' in told) {
      handled = told.handled
      return
    }
    const mine = waiting.get(told.id)
    waiting.delete(told.id)
    if ('failure' in told) mine?.reject(new Error(told.failure))
    else mine?.resolve(told.answer)
  })
  const gone = once(child, 'exit').then(([code, signal]) => {
    ended = new Error(`a process of the bench ended (${String(signal ?? code)}): ${said.join('\n')}`)
    for (const { reject } of waiting.values()) reject(ended)
    waiting.clear()
  })

  return {
    pid: child.pid ?? 0,
    get handled() {
      // Whoever waits for more of them would wait for ever.
      if (ended) throw ended
      return handled
    },
    ask<N extends Name>(name: N, argument: Argument<N>) {
      return new Promise<Answer<N>>((resolve, reject) => {
        if (ended) {
          reject(ended)
          return
        }
        const id = ++asked
        waiting.set(id, { resolve: (answer) => resolve(answer as Answer<N>), reject })
        child.send({ id, name, argument } satisfies Asked)
      })
    },
    async kill() {
      child.kill('SIGKILL')
      await gone
    },
  }
}

/** So many processes, each with the adapter's library loaded; killed when the work is done. */
export async function withChildren<T>(
  adapters: string[],
  work: (children: Spawned[]) => Promise<T>,
): Promise<T> {
  const children = await Promise.all(adapters.map(spawnChild))
  try {
    await Promise.all(children.map((child, i) => child.ask('load', { adapter: adapters[i] ?? '' })))
    return await work(children)
  } finally {
    await Promise.all(children.map((child) => child.kill()))
  }
}
