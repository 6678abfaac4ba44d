import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Report } from '../../src/step/settle.sql.ts'
import { capacityOf } from '../../src/worker/capacity.ts'
import { createLookAhead } from '../../src/worker/look-ahead.ts'
import { createMarks } from '../../src/worker/marks.ts'
import { createOutbox, type Mail } from '../../src/worker/outbox.ts'
import { releaseReport, reportOf, type Ending } from '../../src/worker/outcome.ts'
import type { ClaimedStep } from '../../src/step/claim.sql.ts'

/** The parts of a pod that need no database, held against what must be true of them whatever happens. */

const RUNS = { numRuns: 2000 }

type Move =
  | { kind: 'claim'; steps: number }
  | { kind: 'end'; pick: number }
  | { kind: 'end elsewhere'; pick: number }
  | { kind: 'send'; most: number }
  | { kind: 'answer'; pick: number; lost: boolean }

const move: fc.Arbitrary<Move> = fc.oneof(
  fc.record({ kind: fc.constant('claim' as const), steps: fc.integer({ min: 1, max: 5 }) }),
  fc.record({ kind: fc.constant('end' as const), pick: fc.nat() }),
  fc.record({ kind: fc.constant('end elsewhere' as const), pick: fc.nat() }),
  fc.record({ kind: fc.constant('send' as const), most: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ kind: fc.constant('answer' as const), pick: fc.nat(), lost: fc.boolean() }),
)

test('a claim ends with the exchange that hands in its last step, or after it, never before, and every one ends', () => {
  fc.assert(
    fc.property(fc.array(move, { maxLength: 60 }), (moves) => {
      const outbox = createOutbox()
      /** Steps of each claim that are not handed in, by what we know. */
      const open = new Map<string, Set<string>>()
      const running: { claim: string; step: string }[] = []
      const underWay: Mail[] = []
      const ended = new Set<string>()
      let claims = 0
      const takeOne = <T>(some: T[], pick: number) =>
        some.length > 0 ? some.splice(pick % some.length, 1)[0] : undefined

      function send(most: number) {
        if (!outbox.hasMail || underWay.length === 2) return
        const mail = outbox.take(most)
        for (const claim of mail.ended) {
          const left = new Set(open.get(claim))
          for (const report of mail.reports) if (report.claimId === claim) left.delete(report.stepId)
          assert.deepEqual([...left], [], `claim ${claim} ends, and steps of it are open`)
          for (const other of underWay)
            assert.ok(
              other.reports.every((report) => report.claimId !== claim),
              `claim ${claim} ends, and another exchange has some of it`,
            )
        }
        underWay.push(mail)
      }

      function answer(mail: Mail, lost: boolean) {
        if (lost) return outbox.returned(mail)
        outbox.delivered(mail)
        for (const { claimId, stepId } of mail.reports) open.get(claimId)?.delete(stepId)
        for (const claim of mail.ended) ended.add(claim)
      }

      for (const each of moves) {
        if (each.kind === 'claim') {
          const claim = String(++claims)
          const steps = Array.from({ length: each.steps }, (_, n) => `${claim}.${n}`)
          open.set(claim, new Set(steps))
          for (const step of steps) {
            outbox.opened(claim)
            running.push({ claim, step })
          }
        } else if (each.kind === 'end') {
          const one = takeOne(running, each.pick)
          if (one) outbox.add(releaseReport(one.claim, one.step, 1, 'made'))
        } else if (each.kind === 'end elsewhere') {
          const one = takeOne(running, each.pick)
          if (!one) continue
          outbox.closed(one.claim)
          open.get(one.claim)?.delete(one.step)
        } else if (each.kind === 'send') send(each.most)
        else {
          const mail = takeOne(underWay, each.pick)
          if (mail) answer(mail, each.lost)
        }
      }
      // What is left ends, and the network is well again.
      for (const { claim, step } of running) outbox.add(releaseReport(claim, step, 1, 'made'))
      for (const mail of underWay.splice(0)) answer(mail, false)
      for (let time = 0; !outbox.isEmpty; time++) {
        assert.ok(time < 1000, 'it never empties')
        send(1000)
        for (const mail of underWay.splice(0)) answer(mail, false)
      }
      assert.equal(ended.size, claims, 'a claim was left standing')
      assert.deepEqual(outbox.openClaims(), [])
    }),
    RUNS,
  )
})

test('a mark never passes what was taken less than 100 ms before: a submit that commits a little later is found', () => {
  const taken = fc.record({
    lane: fc.integer({ min: 1, max: 3 }),
    afterMs: fc.integer({ min: 0, max: 80 }),
    count: fc.integer({ min: 1, max: 300 }),
    isFront: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(taken, { maxLength: 60 }), (takes) => {
      const marks = createMarks()
      const seen: { lane: number; position: bigint; atMs: number }[] = []
      const next = new Map<string, bigint>()
      let nowMs = 1000
      for (const { lane, afterMs, count, isFront } of takes) {
        nowMs += afterMs
        const place = `${lane} ${isFront}`
        const from = next.get(place) ?? (isFront ? -(10n ** 9n) : 0n)
        next.set(place, from + BigInt(count))
        const steps = Array.from({ length: count }, (_, n) => ({
          lane_id: lane,
          position: String(from + BigInt(n) + 1n),
        }))
        marks.took(steps, nowMs)
        seen.push({ lane, position: from + BigInt(count), atMs: nowMs })
        const { markLanes, markPositions, frontLanes, frontPositions } = marks.all()
        for (const [lanes, positions, ofFront] of [
          [markLanes, markPositions, false],
          [frontLanes, frontPositions, true],
        ] as const)
          for (const [i, marked] of lanes.entries()) {
            const old = seen.filter(
              (each) => each.lane === marked && each.position < 0n === ofFront && each.atMs <= nowMs - 100,
            )
            assert.ok(
              old.some((each) => each.position >= BigInt(positions[i] ?? 0)),
              `lane ${marked} is marked at ${positions[i]} at ${nowMs} ms`,
            )
          }
      }
    }),
    RUNS,
  )
})

const ending: fc.Arbitrary<Ending> = fc.oneof(
  fc.record({ kind: fc.constant('returned' as const), value: fc.anything() }),
  fc.record({ kind: fc.constant('threw' as const), error: fc.anything() }),
  fc.record({ kind: fc.constant('crashed' as const), error: fc.anything(), poison: fc.boolean() }),
  fc.record({ kind: fc.constant('timeout' as const), limitMs: fc.nat() }),
  fc.record({ kind: fc.constant('released' as const), why: fc.string() }),
  fc.constant({ kind: 'expired' as const }),
)

test('whatever an attempt ends with, the step has its outcome or comes back: within its attempts, and never both', () => {
  const step = fc.record({
    attempt: fc.integer({ min: 1, max: 20 }),
    max_retries: fc.integer({ min: 0, max: 19 }),
  })
  fc.assert(
    fc.property(
      ending,
      step,
      fc.double({ min: 0, max: 1, noNaN: true }),
      (end, { attempt, max_retries }, chance) => {
        fc.pre(attempt <= max_retries + 1)
        const claimed = { claim_id: '1', step_id: '1', attempt, max_retries, retry: null } as ClaimedStep
        const report: Report = reportOf(claimed, undefined, end, 0, chance)
        const comesBack = report.nextAttempt !== null
        assert.equal(report.outcome === null, comesBack)
        assert.equal(comesBack, report.delayMs !== null)
        if (report.nextAttempt === null) return
        assert.ok(report.nextAttempt <= max_retries + 1, 'it would be tried too often')
        const isFree = report.ended === 'released' || report.ended === 'snoozed'
        assert.equal(report.nextAttempt, isFree ? attempt : attempt + 1)
        assert.ok((report.delayMs ?? -1) >= 0)
      },
    ),
    RUNS,
  )
})

test('a pod runs at least one handler, and never more than it was told it could', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10_000 }), fc.integer({ min: 1, max: 100 }), (most, percent) => {
      const capacity = capacityOf(most, percent)
      assert.ok(capacity >= 1 && capacity <= most)
    }),
    RUNS,
  )
})

test('what is claimed ahead is bounded, none before anything ran, and none after it had to wait', () => {
  const happened = fc.oneof(
    fc.record({ ranMs: fc.double({ min: 0, max: 100_000, noNaN: true }) }),
    fc.constant('grow' as const),
    fc.constant('shrink' as const),
  )
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 500 }),
      fc.array(happened, { maxLength: 50 }),
      (capacity, events) => {
        const ahead = createLookAhead(capacity)
        let hasRun = false
        for (const event of events) {
          if (event === 'grow') ahead.grow()
          else if (event === 'shrink') {
            ahead.shrink()
            assert.equal(ahead.steps, 0)
          } else {
            ahead.ran(event.ranMs)
            hasRun = true
          }
          assert.ok(Number.isInteger(ahead.steps) && ahead.steps >= 0 && ahead.steps <= 1000)
          if (!hasRun) assert.equal(ahead.steps, 0)
        }
      },
    ),
    RUNS,
  )
})
