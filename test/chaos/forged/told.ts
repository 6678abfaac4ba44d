import type { Forgery } from './forgery.ts'
import { forgeClaim, submit, take, tell, work } from './made-history.ts'

/** What a client was told, and what came of it otherwise. */
export const TOLD_FORGED: Forgery[] = [
  {
    breaks: ['I1'],
    by: 'a step was accepted, and is not there',
    async forge(sql, { plain }) {
      const stepId = `${plain.stepId}zz`
      await tell(sql, 'submit', { op: 'lost', stepId })
      return stepId
    },
  },
  {
    breaks: ['I1', 'I17'],
    by: 'a step lies in ready for ever',
    forge: async (sql) => (await submit(sql, 'left')).stepId,
  },
  {
    breaks: ['I1', 'I17'],
    by: 'a step lies in later for ever',
    forge: async (sql) => (await submit(sql, 'left', { delayMs: 60_000 })).stepId,
  },
  {
    breaks: ['I1', 'I17'],
    by: 'a claim stands for ever',
    async forge(sql, { worker }) {
      const { stepId } = await submit(sql, 'left')
      await take(sql, worker)
      return stepId
    },
  },
  {
    breaks: ['I2'],
    by: 'a step was run that nobody had asked for',
    async forge(sql, { worker }) {
      const { stepId } = await submit(sql, 'uninvited', { untold: true })
      await work(sql, worker)
      return stepId
    },
  },
  {
    breaks: ['I2'],
    by: 'a step was run that is not of this client at all',
    async forge(sql, { worker }) {
      const { stepId, key } = await submit(sql, 'uninvited', { untold: true })
      await sql`update fleet_q.steps set args = '{}' where id = ${key}`
      await work(sql, worker)
      return stepId
    },
  },
  {
    breaks: ['I13'],
    by: 'a cancel was confirmed, and the step completed',
    async forge(sql, { plain }) {
      await tell(sql, 'cancel', plain)
      return plain.stepId
    },
  },
  {
    breaks: ['I13'],
    by: 'a cancel was confirmed of a step that had been redriven before, and it completed',
    async forge(sql, { redriven }) {
      await tell(sql, 'cancel', redriven)
      return redriven.stepId
    },
  },
  {
    breaks: ['I13'],
    by: 'a step was claimed after its cancel had been confirmed',
    async forge(sql, { worker, cancelled }) {
      const claim = await forgeClaim(sql, worker, [cancelled.key])
      await sql`delete from fleet_q.claims where id = ${claim}`
      return cancelled.stepId
    },
  },
  {
    breaks: ['I14'],
    by: 'one submit, sent again, became two steps',
    async forge(sql, { worker }) {
      const { stepId } = await submit(sql, 'twice')
      await submit(sql, 'twice')
      await work(sql, worker)
      return stepId
    },
  },
]
