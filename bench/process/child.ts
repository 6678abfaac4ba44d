import { findAdapter } from '../adapters/find.ts'
import type { Worker } from '../adapters/adapter.ts'
import type { Asked, Calls, Name, Told } from './calls.ts'
import { createAhead, type Ahead } from './keep-ahead.ts'
import { offer } from './offer.ts'
import { createRecorder } from './recorder.ts'
import { request } from './request.ts'
import { submit } from './submit.ts'

/** A process of the bench: a worker, a producer or both, as it is asked. It ends when its parent does. */

const TELL_MS = 5

let recorder = createRecorder(0)
let workers: Worker[] = []
let ahead: Ahead | undefined

type Handlers = { [N in Name]: (argument: Parameters<Calls[N]>[0]) => Promise<ReturnType<Calls[N]>> }

const handlers: Handlers = {
  async load({ adapter }) {
    await (await findAdapter(adapter)).load?.()
  },
  async fill({ adapter, url, profile, jobs, pad }) {
    const { prepare, fill } = await findAdapter(adapter)
    await prepare(url, profile)
    if (jobs > 0) await fill(url, jobs, pad)
  },
  async work({ adapter, jobs, holdMs = 0, checkpoints = 0, times = 1, ...options }) {
    const mine = createRecorder(jobs, { holdMs, checkpoints })
    recorder = mine
    const { work } = await findAdapter(adapter)
    for (let time = 0; time < times; time++) workers.push(await work({ ...options, onJob: mine.onJob }))
    return { address: workers.at(-1)?.address }
  },
  seen: () => Promise.resolve(recorder.seen()),
  handled: () => Promise.resolve(recorder.handled),
  async stopWork() {
    await Promise.all(workers.map((worker) => worker.stop()))
    workers = []
  },
  submit,
  offer,
  async keepAhead(call) {
    ahead = await createAhead(call)
  },
  handledElsewhere: ({ handled }) => Promise.resolve({ submitted: ahead?.handled(handled) ?? 0 }),
  stopAhead: async () => ({ submitted: (await ahead?.stop()) ?? 0 }),
  request,
}

const tell = (told: Told) => process.send?.(told)

async function answer({ id, name, argument }: Asked) {
  try {
    // One table of handlers, one of types: their names are the same.
    const handler = handlers[name] as (argument: unknown) => Promise<unknown>
    tell({ id, answer: await handler(argument) })
  } catch (error) {
    tell({ id, failure: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  }
}

process.on('message', (asked: Asked) => void answer(asked))
process.on('disconnect', () => process.exit(0))

let told = 0
setInterval(() => {
  if (recorder.handled === told) return
  told = recorder.handled
  tell({ handled: told })
}, TELL_MS).unref()
