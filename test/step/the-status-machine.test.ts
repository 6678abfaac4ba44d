import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FleetError } from '../../src/errors.ts'
import { recoverBatch } from '../../src/recovery/run-cycle.ts'
import { cancelStep } from '../../src/step/cancel.ts'
import { redriveStep } from '../../src/step/redrive.ts'
import { exchange } from '../../src/step/exchange.sql.ts'
import { promoteDue } from '../../src/step/promote.sql.ts'
import { describeStep } from '../../src/step/read.ts'
import { settle } from '../../src/step/settle.sql.ts'
import { createSubmitter } from '../../src/step/submit.ts'
import { addPod, claimedOf, killPod, want } from '../sql/arrange.ts'
import { tester } from '../support/actor.ts'
import { testDatabase } from '../support/database.ts'
import {
  cancel,
  handIn,
  isEnded,
  recover,
  redrive,
  reportFor,
  shown,
  viewOf,
  type Claim,
  type End,
  type Pod,
  type Step,
} from './status-model.ts'
import { move, type Move } from './status-moves.ts'

/** Everything that may happen to steps, in orders drawn by chance: what SQL shows is what a small model says. */

const { sql, database } = await testDatabase()
const submitter = createSubmitter({
  database,
  shared: database,
  callBehind: () => {},
  onSubmitted: () => {},
  onReplaced: () => {},
})
const leader = await addPod(sql, [])
const [led] = await sql<{ term: string }[]>`
  insert into fleet_q.leader_terms (pod_id, began_why) values (${leader}, 'made') returning term`
const term = led?.term ?? ''

let count = 0

/** A queue of its own type, and the model of it. */
async function createQueue() {
  const type = `machine-${count++}`
  const steps: Step[] = []
  const claims: Claim[] = []
  const pods: Pod[] = []
  let paused = false
  const pick = <T>(from: T[], n: number): T | undefined => from[n % from.length]
  const living = () => pods.filter(({ end }) => end === undefined)

  async function join(): Promise<Pod> {
    const id = await addPod(sql, [type])
    const [row] = await sql<{ public_id: string }[]>`select public_id from fleet_q.pods where id = ${id}`
    const pod: Pod = { id, publicId: row?.public_id ?? '', end: undefined, claims: [] }
    pods.push(pod)
    return pod
  }

  async function submit(delayed: boolean, maxRetries: number) {
    const wish = { type, args: {}, priority: 0, max_retries: maxRetries }
    const { stepIds } = await submitter.submit([delayed ? { ...wish, delay_seconds: 3600 } : wish])
    const id = stepIds[0] ?? ''
    const [row] = await sql<{ key: string }[]>`select fleet_q.step_key(${id}) as key`
    const fresh = {
      status: 'pending' as const,
      attempt: 1,
      crashes: 0,
      claim: undefined,
      endedUnder: undefined,
    }
    steps.push({ id, key: row?.key ?? '', maxRetries, isLater: delayed, ...fresh })
  }

  async function claim(pod: Pod, most: number) {
    const rows = await exchange(sql, want(pod.id, { types: [type], limit: most }), [], [])
    const claimed = claimedOf(rows)
    const free = steps.filter((step) => step.status === 'pending' && !step.isLater && !paused)
    assert.ok(claimed.length <= most)
    if (claimed.length < Math.min(most, free.length))
      assert.ok(
        rows.some((row) => row.kind === 'dropped'),
        'what lies there is claimed, unless cancelled steps lay before it',
      )
    const made: Claim = { id: claimed[0]?.claim_id ?? '', pod, stands: true, open: new Map() }
    for (const { step_id, attempt } of claimed) {
      const step = free.find(({ key }) => key === step_id)
      assert.ok(step, 'it claimed a step that was not to be had')
      assert.equal(attempt, step.attempt)
      Object.assign(step, { status: 'claimed', claim: made })
      made.open.set(step, attempt)
    }
    if (claimed.length === 0) return
    claims.push(made)
    pod.claims.push(made)
  }

  /** By whoever made the claim, dead or alive. */
  async function answer(from: Claim, step: Step, end: End) {
    const attempt = from.open.get(step) ?? 0
    const report = reportFor(from, step, attempt, end)
    handIn(from, step, report)
    const ended = from.open.size === 0 ? [from.id] : []
    await settle(sql, from.pod.id, [report], ended)
    if (ended.length > 0) from.stands = false
  }

  /** Done or refused, as the model says. */
  async function expect(may: boolean, work: Promise<unknown>) {
    const refused = await work.then(
      () => false,
      (error: unknown) => {
        if (error instanceof FleetError && error.code === 'wrong_state') return true
        throw error
      },
    )
    assert.equal(!refused, may)
  }

  async function recoverAll() {
    for (;;) if ((await recoverBatch(database, term, 3_600_000)).claims === 0) break
    for (const each of claims) if (each.stands && each.pod.end !== undefined) recover(each)
  }

  async function promote() {
    const waiting = steps.filter((step) => step.status === 'pending' && step.isLater)
    await sql`
      update fleet_q.later set due_at = fleet_q.clock() where step_id = any (${steps.map(({ key }) => key)}::bigint[])`
    await promoteDue(sql, 1000)
    for (const step of waiting) step.isLater = false
  }

  async function turnPause() {
    paused = !paused
    if (paused) await sql`insert into fleet_q.pauses (type) values (${type})`
    else await sql`delete from fleet_q.pauses where type = ${type}`
  }

  async function end(pod: Pod | undefined, how: 'die' | 'leave', recovered: boolean) {
    if (!pod) return
    pod.end = how === 'die' ? 'died' : 'left'
    await killPod(sql, pod.id)
    if (how === 'leave') await sql`update fleet_q.pods set status = 'gone' where id = ${pod.id}`
    if (recovered) await recoverAll()
  }

  return {
    async make(next: Move) {
      if (next.kind === 'submit') return submit(next.delayed, next.maxRetries)
      if (next.kind === 'claim') return claim(pick(living(), next.pod) ?? (await join()), next.most)
      if (next.kind === 'hand in') {
        const from = pick(
          claims.filter(({ open }) => open.size > 0),
          next.claim,
        )
        const step = from && pick([...from.open.keys()], next.step)
        return from && step && answer(from, step, next.end)
      }
      if (next.kind === 'cancel' || next.kind === 'redrive') {
        const step = pick(steps, next.step)
        if (!step) return
        if (next.kind === 'cancel')
          return expect(
            cancel(step),
            cancelStep(database, tester, step.id, 'made', () => {}),
          )
        return expect(
          redrive(step, claims),
          redriveStep(database, tester, step.id, () => {}),
        )
      }
      if (next.kind === 'die' || next.kind === 'leave')
        return end(pick(living(), next.pod), next.kind, next.recovered)
      if (next.kind === 'recover') return recoverAll()
      return next.kind === 'promote' ? promote() : turnPause()
    },
    async compare() {
      const rows = await viewOf(
        sql,
        steps.map(({ key }) => key),
      )
      const byKey = steps.toSorted((one, other) => Number(one.key) - Number(other.key))
      assert.deepEqual([...rows], byKey.map(shown))
    },
    async compareStatus() {
      for (const step of steps) {
        const { status, tray, claimed_by, attempts } = await describeStep(database, step.id)
        const is = shown(step)
        assert.deepEqual([status, tray], [is.status, is.tray])
        if (!isEnded(step)) assert.equal(claimed_by, is.holder)
        // Its last attempt runs, or ended as the step did; a step that waits has none under way.
        const runs = attempts.some(({ ended }) => ended === null)
        assert.equal(runs, step.status === 'claimed')
        if (isEnded(step) && step.attempt > 0) assert.equal(attempts.at(-1)?.ended, step.status)
      }
    },
    async end() {
      await sql`delete from fleet_q.claims`
      await sql`delete from fleet_q.pauses where type = ${type}`
    },
  }
}

test('whatever happens to steps, and in whatever order: the view and /status say what became of each', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(move, { minLength: 8, maxLength: 30, size: 'max' }), async (moves) => {
      const queue = await createQueue()
      try {
        for (const next of moves) {
          await queue.make(next)
          await queue.compare()
        }
        await queue.compareStatus()
      } finally {
        await queue.end()
      }
    }),
    { numRuns: 220 },
  )
})
