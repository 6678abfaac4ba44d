import { setTimeout as sleep } from 'node:timers/promises'
import { findAdapter } from '../adapters/find.ts'
import type { Job } from '../adapters/adapter.ts'
import { httpProducer } from './request.ts'
import type { Offered, OfferCall } from './calls.ts'
import { machineNow } from './clock.ts'

export const WARM_UP_JOBS = 20

/** Jobs at a steady rate, whatever becomes of those before; when each was called for, and when it was answered. */
export async function offer({
  adapter,
  url,
  profile,
  perSecond,
  jobs,
  address,
}: OfferCall): Promise<Offered> {
  const producer =
    address === undefined ? await (await findAdapter(adapter)).produce(url, profile) : httpProducer(address)
  const calledAt = new Float64Array(jobs)
  const ackedAt = new Float64Array(jobs)

  async function one(job: Job) {
    calledAt[job.n] = machineNow()
    await producer.submit(job)
    ackedAt[job.n] = machineNow()
  }
  // Connections and plans; their numbers lie beyond what is measured.
  for (let i = 0; i < WARM_UP_JOBS; i++) await producer.submit({ n: jobs + i })
  await sleep(200)
  const begun = machineNow()
  const sent: Promise<void>[] = []
  for (let n = 0; n < jobs; n++) {
    const restMs = begun + (n * 1000) / perSecond - machineNow()
    if (restMs > 0) await sleep(restMs)
    sent.push(one({ n }))
  }
  await Promise.all(sent)
  await producer.close()
  return { calledAt, ackedAt }
}
