import { findAdapter } from '../adapters/find.ts'
import type { SubmitCall, Submitted } from './calls.ts'

/** So many callers, each of which submits again when it has its answer. */
export async function submit({
  adapter,
  url,
  profile,
  callers,
  ms,
  batch,
  pad,
  jobsMax = Number.POSITIVE_INFINITY,
}: SubmitCall): Promise<Submitted> {
  const producer = await (await findAdapter(adapter)).produce(url, profile)
  const rest = pad === undefined ? {} : { pad }
  let next = 0
  let jobs = 0
  const begun = performance.now()
  const until = begun + ms

  async function caller() {
    while (performance.now() < until && next < jobsMax) {
      if (batch === 1) await producer.submit({ n: next++, ...rest })
      else await producer.submitMany(Array.from({ length: batch }, () => ({ n: next++, ...rest })))
      jobs += batch
    }
  }
  await Promise.all(Array.from({ length: callers }, caller))
  const took = performance.now() - begun
  await producer.close()
  return { jobs, ms: took }
}
