import { putOutcomeAside } from '../../../src/step/cancel.sql.ts'
import { againOf, failedOf, reportOf } from '../../sql/arrange.ts'
import type { Forgery } from './forgery.ts'
import {
  forgeAttempt,
  forgeClaim,
  forgeOutcome,
  handIn,
  runAtOnce,
  submit,
  take,
  takeAway,
  takeOut,
  work,
} from './made-history.ts'

/** What pods, leaders and handlers may not do, done once. */
export const KEPT_FORGED: Forgery[] = [
  {
    breaks: ['I3'],
    by: 'an outcome was overwritten',
    async forge(sql, { plain }) {
      await sql`update fleet_q.outcomes set result = '"another"' where step_id = ${plain.key}`
      return plain.stepId
    },
  },
  {
    breaks: ['I3'],
    by: 'an outcome was put aside by no redrive, and came a second time',
    async forge(sql, { cancelled }) {
      await sql`delete from fleet_q.outcomes where step_id = ${cancelled.key}`
      await sql`insert into fleet_q.outcomes (step_id, status, attempt) values (${cancelled.key}, 'cancelled', 0)`
      return cancelled.stepId
    },
  },
  {
    breaks: ['I1', 'I3'],
    by: 'an outcome was thrown away',
    async forge(sql, { plain }) {
      await sql`delete from fleet_q.outcomes where step_id = ${plain.key}`
      return plain.stepId
    },
  },
  {
    breaks: ['I1', 'I3'],
    by: 'a redrive put an outcome aside and forgot to put the step into its lane',
    async forge(sql, { cancelled }) {
      await putOutcomeAside(sql, [cancelled.key])
      return cancelled.stepId
    },
  },
  {
    breaks: ['I4'],
    by: 'an answer counted whose claim had been taken away',
    async forge(sql, { worker }) {
      const { stepId, key } = await submit(sql, 'late')
      const [step] = await take(sql, worker)
      const claim = step?.claim_id ?? ''
      await takeAway(sql, claim)
      await forgeOutcome(sql, worker, claim, key)
      return stepId
    },
  },
  {
    breaks: ['I4'],
    by: 'an answer counted whose step somebody else had claimed meanwhile',
    async forge(sql, { worker, victim }) {
      const { stepId, key } = await submit(sql, 'late')
      await takeOut(sql, key)
      const first = await forgeClaim(sql, victim, [key])
      await forgeAttempt(sql, victim, first, key, 'pod_died')
      const second = await forgeClaim(sql, worker, [key], 2)
      await forgeOutcome(sql, victim, first, key, 2)
      await sql`delete from fleet_q.claims where id in (${first}, ${second})`
      return stepId
    },
  },
  {
    breaks: ['I4'],
    by: 'a failure counted whose claim had been taken away: another attempt came of it',
    async forge(sql, { worker }) {
      const { stepId } = await submit(sql, 'late')
      const [step] = await take(sql, worker)
      if (!step) throw new Error('there was nothing to take')
      await takeAway(sql, step.claim_id)
      await forgeAttempt(sql, worker, step.claim_id, step.step_id)
      await sql`insert into fleet_q.ready (lane_id, step_id, attempt) values (${step.lane_id}, ${step.step_id}, 2)`
      await work(sql, worker)
      return stepId
    },
  },
  {
    breaks: ['I4'],
    by: 'a step was completed that nobody had claimed',
    async forge(sql, { worker }) {
      const { stepId, key } = await submit(sql, 'unclaimed')
      await takeOut(sql, key)
      await forgeOutcome(sql, worker, '1000', key)
      return stepId
    },
  },
  {
    breaks: ['I5'],
    by: 'a handler wrote twice for one step that completed',
    async forge(sql, { ledger }) {
      await sql`insert into chaos.ledger (step_id, attempt) values (${ledger.stepId}, 1)`
      return ledger.stepId
    },
  },
  {
    breaks: ['I5'],
    by: 'what a handler had written is gone, and its step has completed',
    async forge(sql, { ledger }) {
      await sql`delete from chaos.ledger where step_id = ${ledger.stepId}`
      return ledger.stepId
    },
  },
  {
    breaks: ['I5'],
    by: 'what is written is of another attempt than the one that completed the step',
    async forge(sql, { ledger }) {
      await sql`update chaos.ledger set attempt = 2 where step_id = ${ledger.stepId}`
      return ledger.stepId
    },
  },
  {
    breaks: ['I5'],
    by: 'a handler wrote for a step that failed',
    async forge(sql, { worker }) {
      const { stepId } = await submit(sql, 'failed ledger', { type: 'ledger' })
      for (const step of await take(sql, worker, 'ledger')) await handIn(sql, worker, [failedOf(step)])
      await sql`insert into chaos.ledger (step_id, attempt) values (${stepId}, 1)`
      return stepId
    },
  },
  {
    breaks: ['I6'],
    by: 'an attempt was left out in the count',
    async forge(sql, { worker }) {
      const { stepId, key } = await submit(sql, 'gap')
      await takeOut(sql, key)
      const claim = await forgeClaim(sql, worker, [key], 2)
      await handIn(sql, worker, [reportOf({ claim_id: claim, step_id: key, attempt: 2 })])
      return stepId
    },
  },
  {
    breaks: ['I6'],
    by: 'a step was tried more often than it may be',
    async forge(sql, { worker }) {
      const { stepId } = await submit(sql, 'tireless', { maxRetries: 0 })
      for (const step of await take(sql, worker)) await handIn(sql, worker, [againOf(step, 0)])
      await work(sql, worker)
      return stepId
    },
  },
  {
    breaks: ['I6'],
    by: 'a step has killed four pods',
    async forge(sql, { worker, victim }) {
      const { stepId, key } = await submit(sql, 'deadly', { maxRetries: 20 })
      await takeOut(sql, key)
      for (let attempt = 1; attempt <= 4; attempt++) {
        const claim = await forgeClaim(sql, victim, [key], attempt)
        await forgeAttempt(sql, victim, claim, key, 'pod_died')
        await sql`delete from fleet_q.claims where id = ${claim}`
      }
      const claim = await forgeClaim(sql, worker, [key], 5)
      await handIn(sql, worker, [reportOf({ claim_id: claim, step_id: key, attempt: 5 })])
      return stepId
    },
  },
  {
    breaks: ['I6'],
    by: 'something happened outside for an attempt that never was',
    async forge(sql, { effect }) {
      await sql`insert into chaos.effects (step_id, attempt, pid) values (${effect.stepId}, 2, 1)`
      return effect.stepId
    },
  },
  {
    breaks: ['I7'],
    by: 'two claims held one step',
    async forge(sql, { worker, victim }) {
      const { stepId, key } = await submit(sql, 'shared')
      await takeOut(sql, key)
      const first = await forgeClaim(sql, victim, [key])
      const second = await forgeClaim(sql, worker, [key])
      await handIn(sql, worker, [reportOf({ claim_id: second, step_id: key, attempt: 1 })])
      await sql`delete from fleet_q.claims where id = ${first}`
      return stepId
    },
  },
  {
    breaks: ['I8'],
    by: 'four of a type ran at once that may run three times',
    async forge(sql, { worker }) {
      await runAtOnce(sql, worker, ['one', 'two', 'three', 'four'], { type: 'limited' })
      return '4 of type limited'
    },
  },
  {
    breaks: ['I8'],
    by: 'two of one key ran at once',
    async forge(sql, { worker }) {
      await runAtOnce(sql, worker, ['one', 'two'], { type: 'single', laneKey: 'k7' })
      return '2 of key "k7'
    },
  },
  {
    breaks: ['I16'],
    by: 'a term began while another was open',
    async forge(sql, { firstLeader }) {
      await sql`drop index fleet_q.leader_terms_open`
      const [row] = await sql<{ term: string }[]>`
        insert into fleet_q.leader_terms (pod_id, began_why) values (${firstLeader}, 'made') returning term`
      return `term ${row?.term}`
    },
  },
  {
    breaks: ['I16'],
    by: 'a leader whose term was over took a claim of another pod away',
    async forge(sql, { worker, firstLeader }) {
      await submit(sql, 'robbed')
      const [step] = await take(sql, worker)
      if (!step) throw new Error('there was nothing to take')
      await sql`
        select set_config('application_name', 'fleet-q lead ' || public_id, true) from fleet_q.pods where id = ${firstLeader}`
      await sql`delete from fleet_q.claims where id = ${step.claim_id}`
      await forgeAttempt(sql, worker, step.claim_id, step.step_id, 'pod_died')
      await sql`insert into fleet_q.ready (lane_id, step_id, attempt) values (${step.lane_id}, ${step.step_id}, 2)`
      await work(sql, worker)
      // Long over.
      await sql`update chaos.audit set at = at - interval '1 minute' where what like 'term %'`
      return `claim ${step.claim_id}`
    },
  },
]
