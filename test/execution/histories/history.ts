import type postgres from 'postgres'

/** What the tables held of an execution that was asleep, and how it went on. Times are told from that moment on. */
export interface History {
  steps: StoredStep[]
  checkpoints: StoredCheckpoint[]
  events: { step_id: string; name: string; payload: string; taken_by: number | null }[]
  ended: End
}

export interface End {
  status: string
  /** JSON. */
  result: string
  error: string | null
  /** Bodies that ran after it was woken: none of those that are remembered. */
  ran: string[]
}

interface StoredStep {
  id: string
  salt: string
  type: string
  priority: number
  key: string
  max_retries: number
  created_at: string
  args: string
  parent_id: string | null
  detached: boolean
  attempt: number
  why: string
  due_ms: number | null
}

interface StoredCheckpoint {
  step_id: string
  name: string
  number: number
  kind: string
  turn: number | null
  after_turn: number
  claim_id: string
  due_ms: number | null
  arrived_ms: number | null
  failures: number
  child_id: string | null
  result: string | null
  error: string | null
}

/** It, and what it has submitted and has not ended: all of them lie in `later`. */
export async function takeHistory(sql: postgres.Sql, key: string): Promise<Omit<History, 'ended'>> {
  const steps = await sql<StoredStep[]>`
    select steps.id, salt, type, priority, lanes.key, max_retries, created_at::text, args::text, parent_id, detached,
      later.attempt, later.why, extract(epoch from later.due_at - fleet_q.clock())::float8 * 1000 as due_ms
    from fleet_q.steps
    join fleet_q.lanes on lanes.id = steps.lane_id
    join fleet_q.later on later.step_id = steps.id
    where steps.id = ${key} or steps.parent_id = ${key}
    order by steps.id`
  const checkpoints = await sql<StoredCheckpoint[]>`
    select step_id, name, number, kind, turn, after_turn, claim_id,
      extract(epoch from due_at - fleet_q.clock())::float8 * 1000 as due_ms,
      extract(epoch from arrived_at - fleet_q.clock())::float8 * 1000 as arrived_ms,
      failures, child_id, result::text, error::text
    from fleet_q.checkpoints where step_id = ${key}
    order by turn nulls last, after_turn, name, number`
  const events = await sql<History['events']>`
    select step_id, name, payload::text, taken_by from fleet_q.events where step_id = ${key} order by id`
  return { steps: [...steps], checkpoints: [...checkpoints], events: [...events] }
}

/** Into a database that holds nothing else. The public id of the execution. */
export async function putHistory(sql: postgres.Sql, history: Omit<History, 'ended'>): Promise<string> {
  for (const step of history.steps) {
    await sql`
      insert into fleet_q.steps (id, salt, lane_id, max_retries, created_at, args, parent_id, detached)
      values (${step.id}, ${step.salt}, fleet_q.lane_of(${step.type}, ${step.priority}, ${step.key}),
        ${step.max_retries}, ${step.created_at}::text::timestamptz, ${step.args}::text::jsonb, ${step.parent_id},
        ${step.detached})`
    await sql`
      insert into fleet_q.later (step_id, lane_id, due_at, attempt, why)
      select id, lane_id, fleet_q.clock() + ${step.due_ms}::float8 * interval '1 millisecond', ${step.attempt},
        ${step.why}::text::fleet_q.later_why
      from fleet_q.steps where id = ${step.id}`
  }
  for (const row of history.checkpoints)
    await sql`
      insert into fleet_q.checkpoints (step_id, name, number, kind, turn, after_turn, claim_id, due_at, arrived_at,
        failures, child_id, result, error)
      values (${row.step_id}, ${row.name}, ${row.number}, ${row.kind}::text::fleet_q.checkpoint_kind, ${row.turn},
        ${row.after_turn}, ${row.claim_id}, fleet_q.clock() + ${row.due_ms}::float8 * interval '1 millisecond',
        fleet_q.clock() + ${row.arrived_ms}::float8 * interval '1 millisecond', ${row.failures}, ${row.child_id},
        ${row.result}::text::jsonb, ${row.error}::text::jsonb)`
  for (const event of history.events)
    await sql`
      insert into fleet_q.events (step_id, name, payload, taken_by)
      values (${event.step_id}, ${event.name}, ${event.payload}::text::jsonb, ${event.taken_by})`
  // What comes next has keys of its own.
  await sql`select setval('fleet_q.step_ids', 1000), setval(pg_get_serial_sequence('fleet_q.claims', 'id'), 1000)`
  const [first] = history.steps
  const [row] = await sql`
    select fleet_q.step_public_id(id, salt, created_at) as id from fleet_q.steps where id = ${first?.id ?? null}`
  return String(row?.['id'])
}
