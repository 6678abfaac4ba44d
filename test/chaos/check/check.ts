import { createReadStream, existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Sql } from '../../../src/db/connect.ts'
import type { Told } from '../caller.ts'
import { INVARIANTS } from './invariants.ts'
import { recoveryTimes } from './recovery-times.ts'

export interface Verdict {
  id: string
  says: string
  witnesses: string[]
  ms: number
}

const ROWS_PER_INSERT = 20_000

/** Puts what the client was told and what the sink has written beside the tables, so that all can be compared. */
export async function loadHistory(sql: Sql, told: Told[], effectsFile: string) {
  for (let from = 0; from < told.length; from += ROWS_PER_INSERT) {
    const part = told.slice(from, from + ROWS_PER_INSERT)
    await sql`
      insert into chaos.history (op, f, step_id, at)
      select * from unnest(
        ${part.map((each) => each.op)}::text[], ${part.map((each) => each.f)}::text[],
        ${part.map((each) => each.stepId)}::text[], ${part.map((each) => each.at.toISOString())}::timestamptz[])`
  }
  if (existsSync(effectsFile)) {
    let lines: string[] = []
    const keep = async () => {
      await sql`
        insert into chaos.effects (step_id, attempt, pid, place, value, seen)
        select line ->> 'step', (line ->> 'attempt')::int, (line ->> 'pid')::int, line ->> 'place', line ->> 'value',
          line -> 'seen'
        from (select raw::jsonb as line from unnest(${lines}::text[]) as raw) as each`
      lines = []
    }
    for await (const line of createInterface({ input: createReadStream(effectsFile) }))
      if (lines.push(line) === ROWS_PER_INSERT) await keep()
    await keep()
  }
  await sql.unsafe(`
    create table chaos.taken as
      select seq, began, at, tx, claim_id, pod_id, unnest(step_ids) as step_id, unnest(attempts) as attempt
      from chaos.audit where what = 'taken';
    create index on chaos.taken (step_id, seq);
    create index on chaos.audit (step_id, seq) where step_id is not null;
    create index on chaos.audit (claim_id) where what = 'gone';
    create index on chaos.history (op);
    analyze chaos.audit, chaos.taken, chaos.history, chaos.effects, chaos.ledger, chaos.written, fleet_q.steps,
      fleet_q.outcomes, fleet_q.checkpoints, fleet_q.events,
      fleet_q.attempts, fleet_q.claims, fleet_q.lanes, fleet_q.limits, fleet_q.redrives`)
}

export async function checkAll(sql: Sql): Promise<Verdict[]> {
  const verdicts: Verdict[] = []
  for (const { id, says, witnesses } of INVARIANTS) {
    const begun = performance.now()
    const rows = await witnesses(sql)
    verdicts.push({
      id,
      says,
      witnesses: rows.map((row) => row.witness),
      ms: Math.round(performance.now() - begun),
    })
  }
  return verdicts
}

export interface Recovery {
  kills: number
  steps: number
  p50Ms: number
  p99Ms: number
  maxMs: number
  /** The part of it until it lay in its lane again: what is left is the wait for a free slot. */
  putBackP99Ms: number
  /** Whose was the worst. */
  worst: string
}

export async function measureRecovery(sql: Sql): Promise<Recovery> {
  const rows = await recoveryTimes(sql)
  const ms = rows.map((row) => row.ms)
  const putBackMs = rows.map((row) => row.put_back_ms).toSorted((a, b) => a - b)
  const last = rows.at(-1)
  const at = (share: number, of = ms) =>
    Math.round(of[Math.min(of.length - 1, Math.floor(of.length * share))] ?? 0)
  return {
    kills: new Set(rows.map((row) => row.pod)).size,
    steps: ms.length,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: at(1),
    putBackP99Ms: at(0.99, putBackMs),
    worst: last ? `${last.pod}, killed at ${last.killed_at.toISOString()}` : '',
  }
}
