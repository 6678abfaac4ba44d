import type { Actor } from '../../src/access/actor.ts'

/** Who acts in tests that call a verb of the product themselves. */
export const tester: Actor = {
  who: 'a test',
  role: 'admin',
  ip: undefined,
  requestId: 'test',
  operation: 'test',
}

/** For what a test does below the verbs that write it down. */
export const unnoted = async () => {}
