import type postgres from 'postgres'

/** Tables that grow with the work. */
export const BIG_TABLES = [
  'steps',
  'ready',
  'later',
  'claims',
  'attempts',
  'outcomes',
  'dead_letters',
  'redrives',
  'logs',
  'progress',
  'idempotency_keys',
  'unique_keys',
] as const

/** From here on the statistics stay as they are, whatever is written. */
export async function stopAutovacuum(sql: postgres.Sql) {
  for (const table of [...BIG_TABLES, 'lanes', 'pods'])
    await sql.unsafe(`alter table fleet_q.${table} set (autovacuum_enabled = off)`)
}

/**
 * Every tray full: of 3 x `count` steps of twenty lanes a third lies ready, a sixth later, some are held by fifteen
 * pods, five of them dead; the rest has its outcome, 5 % failed and 2 % cancelled.
 */
export const fillTrays = (sql: postgres.Sql, count: number) =>
  sql.unsafe(`
    insert into fleet_q.lanes (type, priority, key) select 't' || n, n % 3, '' from generate_series(1, 20) as n;
    insert into fleet_q.pods
      (public_id, name, status, version, types, capacity, dead_after_ms, leader_eligible, ended_at, ended_why)
    select 'pod-' || n, 'pod', (case when n <= 10 then 'live' else 'dead' end)::fleet_q.pod_status, '0', '{t1,t2}', 100,
      15000, true, case when n > 10 then now() end, case when n > 10 then 'silent' end
    from generate_series(1, 15) as n;
    insert into fleet_q.leader_terms (pod_id, began_why) select min(id), 'oldest living pod' from fleet_q.pods;
    create temp table fresh as
      select nextval('fleet_q.step_ids') as id, n, (select min(id) from fleet_q.lanes) + n % 20 as lane_id
      from generate_series(1, ${count} * 3) as n;
    insert into fleet_q.steps (id, salt, lane_id, max_retries, args) select id, n, lane_id, 3, '{"a": 1}' from fresh;
    insert into fleet_q.ready (lane_id, step_id, attempt) select lane_id, id, 1 from fresh where n <= ${count} order by n;
    insert into fleet_q.later (step_id, lane_id, due_at, attempt, why)
      select id, lane_id, now() + (n - ${count} * 1.1) * interval '1 s', 1, 'delay'
      from fresh where n > ${count} and n <= ${count} * 1.5;
    insert into fleet_q.claims (pod_id, step_ids, attempts)
      select (select min(id) from fleet_q.pods) + batch % 15, array_agg(id), array_agg(1::smallint)
      from (select id, n / 100 as batch from fresh where n > ${count} * 1.5 and n <= ${count} * 1.55) as held
      group by batch;
    insert into fleet_q.outcomes (step_id, status, attempt, claim_id, pod_id, settled_at)
      select id, (case when n % 20 = 0 then 'failed' when n % 50 = 1 then 'cancelled' else 'completed' end)::fleet_q.outcome_status,
        1, 1, 1, now() - interval '30 days'
      from fresh where n > ${count} * 1.55;
    insert into fleet_q.dead_letters (step_id, reason)
      select step_id, 'exhausted' from fleet_q.outcomes where status = 'failed';
    insert into fleet_q.attempts (step_id, claim_id, attempt, pod_id, ended, started_at)
      select step_id, 0, 1, 1, 'failed', now() from fleet_q.outcomes where step_id % 2 = 0;
    insert into fleet_q.logs (step_id, claim_id, line, attempt, level, message)
      select step_id, 0, 1, 1, 'info', 'said' from fleet_q.outcomes;
    insert into fleet_q.progress (step_id, claim_id, percent) select step_id, 0, 50 from fleet_q.outcomes;
    insert into fleet_q.redrives (step_id, status, attempt)
      select step_id, 'failed', 1 from fleet_q.outcomes where status = 'failed';
    insert into fleet_q.unique_keys (key, step_id) select step_id::text, step_id from fleet_q.outcomes where step_id % 3 = 0;
    drop table fresh`)
