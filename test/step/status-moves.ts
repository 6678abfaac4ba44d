import fc from 'fast-check'
import { ENDS, type End } from './status-model.ts'

/** What may happen to steps and to those who hold them; numbers pick among what is there then. */
export type Move =
  | { kind: 'submit'; delayed: boolean; maxRetries: number }
  | { kind: 'claim'; pod: number; most: number }
  | { kind: 'hand in'; claim: number; step: number; end: End }
  | { kind: 'cancel' | 'redrive'; step: number }
  | { kind: 'die' | 'leave'; pod: number; recovered: boolean }
  | { kind: 'recover' | 'promote' | 'pause' }

const some = fc.nat({ max: 1000 })
export const move: fc.Arbitrary<Move> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('submit' as const),
      delayed: fc.constantFrom(false, false, true),
      maxRetries: fc.constantFrom(0, 1, 3, 3),
    }),
  },
  {
    weight: 7,
    arbitrary: fc.record({
      kind: fc.constant('claim' as const),
      pod: some,
      most: fc.integer({ min: 1, max: 4 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('hand in' as const),
      claim: some,
      step: some,
      end: fc.constantFrom(...ENDS),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom('cancel' as const, 'redrive' as const), step: some }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom('die' as const, 'die' as const, 'leave' as const),
      pod: some,
      // At once, or by a later move: what happens in between is late.
      recovered: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom('recover' as const, 'promote' as const, 'pause' as const),
    }),
  },
)
