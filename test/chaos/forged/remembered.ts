import type { Sql } from '../../../src/db/connect.ts'
import type { Forgery } from './forgery.ts'
import { forgeAttempt, tell } from './made-history.ts'

/** Behind the back of every statement of ours. */
const write = (
  sql: Sql,
  { key }: { key: string },
  row: { name: string; kind: string; turn: number | null; claim?: string; number?: number; result?: string },
) => sql`
  insert into fleet_q.checkpoints (step_id, name, number, kind, turn, after_turn, claim_id, arrived_at, result)
  values (${key}, ${row.name}, ${row.number ?? 1}, ${row.kind}::text::fleet_q.checkpoint_kind, ${row.turn}, 0,
    ${row.claim ?? '0'}, case when ${row.kind}::text = 'event' then now() end, ${row.result ?? '"forged"'}::text::jsonb)`

/** What no execution may remember, and nobody may do to what it remembers. */
export const REMEMBERED_FORGED: Forgery[] = [
  {
    breaks: ['I10'],
    by: 'a result was changed after it had been accepted',
    async forge(sql, { order }) {
      await sql`update fleet_q.checkpoints set due_at = now(), child_id = null, error = '{}' where step_id = ${order.key} and name = 'think'`
      return order.stepId
    },
  },
  {
    breaks: ['I10'],
    by: 'a result was forgotten',
    async forge(sql, { order }) {
      await sql`delete from fleet_q.checkpoints where step_id = ${order.key} and name = 'think'`
      return order.stepId
    },
  },
  {
    breaks: ['I10'],
    by: 'a handler had been given another result in an earlier attempt',
    async forge(sql, { order }) {
      await sql`
        insert into chaos.effects (step_id, attempt, pid, seen)
        values (${order.stepId}, 1, 1, '{"1 think": "otherwise"}')`
      return order.stepId
    },
  },
  {
    breaks: ['I10'],
    by: 'a pod whose claim is gone wrote a result',
    async forge(sql, { order, firstClaim }) {
      await write(sql, order, { name: 'late', kind: 'run', turn: 9, claim: firstClaim })
      return order.stepId
    },
  },
  {
    breaks: ['I10'],
    by: 'two results have one turn',
    async forge(sql, { order }) {
      // The schema makes it impossible; should it ever not.
      await sql`drop index fleet_q.checkpoints_turn`
      await write(sql, order, { name: 'twin', kind: 'run', turn: 1 })
      return order.stepId
    },
  },
  {
    breaks: ['I10'],
    by: 'a replay asked for something else',
    async forge(sql, { worker, order }) {
      await forgeAttempt(sql, worker, '999999', order.key, 'misfit')
      return order.stepId
    },
  },
  {
    breaks: ['I10'],
    by: 'what was accepted had been asked of the service outside by two bodies',
    async forge(sql, { order }) {
      await sql`
        insert into chaos.effects (step_id, attempt, pid, place, value) values (${order.stepId}, 1, 1, '1 effect', 'done')`
      return order.stepId
    },
  },
  {
    breaks: ['I10'],
    by: 'what was accepted was never asked of the service outside',
    async forge(sql, { order }) {
      await write(sql, order, { name: 'effect', number: 2, kind: 'run', turn: 9 })
      return order.stepId
    },
  },
  {
    breaks: ['I10'],
    by: 'a body wrote twice through its transaction',
    async forge(sql, { order }) {
      await sql`insert into chaos.written (step_id, place, value) values (${order.stepId}, '1 ledger', 'row')`
      return order.stepId
    },
  },
  {
    breaks: ['I10'],
    by: 'what a body wrote is there, and its checkpoint is not',
    async forge(sql, { order }) {
      await sql`insert into chaos.written (step_id, place, value) values (${order.stepId}, '2 ledger', 'row')`
      return order.stepId
    },
  },
  {
    breaks: ['I10'],
    by: 'a checkpoint is there, and what its body wrote is not',
    async forge(sql, { order }) {
      await sql`delete from chaos.written where step_id = ${order.stepId}`
      return order.stepId
    },
  },
  {
    breaks: ['I10'],
    by: 'an execution has completed, and something that it asked for is open',
    async forge(sql, { order }) {
      await write(sql, order, { name: 'open', kind: 'run', turn: null })
      return order.stepId
    },
  },
  {
    breaks: ['I10'],
    by: 'an execution has failed, and what it had done was not undone',
    async forge(sql, { saga }) {
      await sql`update fleet_q.checkpoints set name = 'something else' where step_id = ${saga.key} and kind = 'run'`
      return saga.stepId
    },
  },
  {
    breaks: ['I11'],
    by: 'an event was accepted, and is not there',
    async forge(sql, { order }) {
      await tell(sql, 'event', { op: 'order/lost', stepId: order.stepId })
      return order.stepId
    },
  },
  {
    breaks: ['I11'],
    by: 'an event is there that nobody has sent',
    async forge(sql, { order }) {
      await sql`insert into fleet_q.events (step_id, name, payload) values (${order.key}, 'go', '{"id": "order/forged"}')`
      return order.stepId
    },
  },
  {
    breaks: ['I11'],
    by: 'an event was sent once, and is there twice',
    async forge(sql, { order }) {
      await sql`insert into fleet_q.events (step_id, name, payload) values (${order.key}, 'go', '{"id": "order/go/1"}')`
      return order.stepId
    },
  },
  {
    breaks: ['I11'],
    by: 'two waits got the same event',
    async forge(sql, { order }) {
      await write(sql, order, {
        name: 'go',
        number: 2,
        kind: 'event',
        turn: 9,
        result: '{"id": "order/go/1"}',
      })
      return order.stepId
    },
  },
  {
    breaks: ['I11'],
    by: 'a wait took an event, and another payload was handed out',
    async forge(sql, { order }) {
      await sql`update fleet_q.events set payload = payload || '{"by": "mallory"}' where step_id = ${order.key}`
      return order.stepId
    },
  },
  {
    breaks: ['I11'],
    by: 'an event was taken by a wait that was told that none came',
    async forge(sql, { order }) {
      await sql`
        insert into fleet_q.events (step_id, name, payload, taken_by)
        values (${order.key}, 'maybe', '{"id": "order/maybe/1"}', 1)`
      await tell(sql, 'event', { op: 'order/maybe/1', stepId: order.stepId })
      return order.stepId
    },
  },
  {
    breaks: ['I11'],
    by: 'a wait has got an event, and was told that none came',
    async forge(sql, { order }) {
      await sql`
        insert into fleet_q.events (step_id, name, payload, taken_by)
        values (${order.key}, 'maybe', '{"id": "order/maybe/1"}', 1)`
      await tell(sql, 'event', { op: 'order/maybe/1', stepId: order.stepId })
      await sql`
        update fleet_q.checkpoints set arrived_at = now() where step_id = ${order.key} and name = 'maybe'`
      return order.stepId
    },
  },
  {
    breaks: ['I11'],
    by: 'an event lay there in time, and its wait was told that none came',
    async forge(sql, { order }) {
      await sql`insert into fleet_q.events (step_id, name, payload) values (${order.key}, 'maybe', '{"id": "order/maybe/1"}')`
      await sql`
        insert into chaos.history (op, f, step_id, at)
        select 'order/maybe/1', 'event', ${order.stepId}, due_at - interval '5 seconds' from fleet_q.checkpoints
        where step_id = ${order.key} and name = 'maybe'`
      return order.stepId
    },
  },
]
