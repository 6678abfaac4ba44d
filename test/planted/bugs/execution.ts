import type { Bug } from '../bugs.ts'

const SCHEMA = 'sql/migrations/0006_executions.sql'
const CHECKPOINT = 'src/execution/checkpoint.sql.ts'

/** What executions remember, and what wakes them. */
export const EXECUTION: Bug[] = [
  {
    what: 'an event is dropped that nobody waits for',
    changes: [
      {
        file: SCHEMA,
        from: '  insert into fleet_q.events (step_id, name, payload) values (its_key, send_event_to.name, send_event_to.payload);\n',
        to: `  if not exists (
    select from fleet_q.checkpoints
    where step_id = its_key and checkpoints.name = send_event_to.name and kind = 'event' and turn is null
  ) then
    return false;
  end if;
  insert into fleet_q.events (step_id, name, payload) values (its_key, send_event_to.name, send_event_to.payload);
`,
      },
    ],
    layers: ['execution/durable: an event that comes before the wait'],
  },
  {
    what: 'an event is sent without a lock on whom it is for',
    changes: [
      {
        file: SCHEMA,
        from: '  perform from fleet_q.steps where id = its_key for no key update;\n',
        to: '  perform from fleet_q.steps where id = its_key;\n',
      },
    ],
    layers: ['test/interleaving: it goes to sleep, and its event is sent'],
  },
  {
    what: 'an event is matched with a wait that is over at this moment',
    changes: [
      {
        file: SCHEMA,
        from: '    order by step_id, name, number\n    for no key update\n',
        to: '    order by step_id, name, number\n',
      },
    ],
    layers: ['execution/events-in-time: a wait that was told so while'],
  },
  {
    what: 'a limit is written over an event that has come',
    changes: [
      {
        file: CHECKPOINT,
        from: "\n    and (standing.kind <> 'event' or standing.arrived_at is null or excluded.error is null)`",
        to: '`',
      },
    ],
    layers: ['execution/events-in-time: a wait that has got its event'],
  },
  {
    what: 'a checkpoint is written without the fence',
    changes: [
      {
        file: CHECKPOINT,
        from: '  where claim_id = any (array(select id from fence))\n',
        to: '  where claim_id is not null\n',
      },
    ],
    layers: ['execution/the-fence: under a claim that is gone'],
  },
  {
    what: 'an attempt that is handed in writes checkpoints, as long as its claim stands',
    changes: [
      {
        file: CHECKPOINT,
        from: 'attempts.step_id = r.step_id and attempts.claim_id = r.claim_id offset 0)',
        to: 'false and attempts.step_id = r.step_id offset 0)',
      },
    ],
    layers: ['execution/the-fence: an attempt that is handed in'],
  },
  {
    what: 'a later attempt overwrites a result that was accepted',
    changes: [
      {
        file: CHECKPOINT,
        from: '    and (standing.turn is null or (standing.claim_id = excluded.claim_id and standing.turn = excluded.turn))\n',
        to: '',
      },
      { file: CHECKPOINT, from: '      when standing.turn is not null then standing.result\n', to: '' },
    ],
    layers: ['execution/the-fence: a result that was accepted'],
  },
  {
    what: 'a replay hands out what is remembered in the order in which it is asked for',
    changes: [
      {
        file: 'src/execution/replay.ts',
        from: '    const next = turns[place] ?? handedTurn + 1\n',
        to: '    const next = [...waiting.keys()][0] ?? turns[place] ?? handedTurn + 1\n',
      },
    ],
    layers: ['execution/replay: whatever runs side by side', 'execution/durable: names that repeat'],
  },
  {
    what: 'a child is submitted without its key',
    changes: [
      {
        file: 'src/execution/submit-children.ts',
        from: 'submit(parsed.data, key, {',
        to: 'submit(parsed.data, key && undefined, {',
      },
    ],
    layers: ['execution/the-fence: a child is found again'],
  },
  {
    what: 'to go to sleep costs an attempt',
    changes: [
      {
        file: 'src/worker/outcome.ts',
        from: '        delayMs: ending.delayMs,\n        nextAttempt: tried,\n',
        to: '        delayMs: ending.delayMs,\n        nextAttempt: tried + 1,\n',
      },
    ],
    layers: ['execution/durable: what ran before a sleep'],
  },
  {
    what: 'whoever waits is looked for with a snapshot from before the lock',
    changes: [
      {
        file: 'src/execution/settle-executions.ts',
        from: '      await lockLetters(tx, [...waiting, ...undoable], ended)\n',
        to: '      await tx`set transaction isolation level repeatable read`\n      await lockLetters(tx, [...waiting, ...undoable], ended)\n',
      },
    ],
    layers: ['test/interleaving: it goes to sleep, and its child completes'],
  },
]
