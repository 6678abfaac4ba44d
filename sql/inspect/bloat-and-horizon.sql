-- Do dead rows pile up in the trays, and who keeps vacuum from taking them away?
-- First answer: the tables that churn, the most dead rows first. A tray that runs is vacuumed every minute or so; dead
-- far above live, and a last_autovacuum long ago or one that does not bring dead down, is a horizon held back. Claims
-- start behind a mark and stay fast for long; sweeps, counts and cancels get slower.
select
  stat.relname as "table",
  stat.n_live_tup as live,
  stat.n_dead_tup as dead,
  date_trunc('second', clock_timestamp() - stat.last_autovacuum) as last_autovacuum,
  stat.autovacuum_count as autovacuums,
  date_trunc('second', clock_timestamp() - greatest(stat.last_autoanalyze, stat.last_analyze)) as last_analyze,
  pg_size_pretty(pg_table_size(stat.relid)) as size,
  pg_size_pretty(pg_indexes_size(stat.relid)) as indexes,
  age(class.relfrozenxid) as frozen_age
from pg_stat_user_tables as stat
join pg_class as class on class.oid = stat.relid
where stat.schemaname = 'fleet_q'
order by stat.n_dead_tup desc, pg_total_relation_size(stat.relid) desc, stat.relname
limit 30;

-- Second answer: who holds the oldest xmin back; the first row is the culprit, if its xids is large (it counts the
-- transactions since) or its since is long. Rows that died after it can be taken away by no vacuum. 20 at most.
--   session    end it by: select pg_cancel_backend(pid), or pg_terminate_backend(pid) if it is idle in transaction
--   prepared   a two-phase transaction that nobody finished: rollback prepared 'its name'
--   slot       a replication slot whose consumer is away: bring it back, or drop the slot
--   standby    a long query over there, with hot_standby_feedback = on
-- What other roles do is hidden from a role without pg_monitor (or pg_read_all_stats): grant it, or be one that has it.
select holder, pid, who, xids, date_trunc('second', clock_timestamp() - since) as since, state, doing
from (
  select 'session' as holder, pid, concat_ws(' ', usename, nullif(application_name, ''), client_addr) as who,
    greatest(age(backend_xmin), age(backend_xid)) as xids, xact_start as since,
    coalesce(state, backend_type) as state, left(regexp_replace(query, '\s+', ' ', 'g'), 80) as doing
  from pg_stat_activity
  where datname = current_database() and pid <> pg_backend_pid()
    and (backend_xmin is not null or backend_xid is not null)
  union all
  select 'prepared', null, concat_ws(' ', owner, gid), age(transaction), prepared, 'prepared', null
  from pg_prepared_xacts where database = current_database()
  union all
  select 'slot', active_pid, slot_name::text, age(xmin), null, case when active then 'active' else 'away' end, null
  from pg_replication_slots where xmin is not null
  union all
  select 'standby', pid, concat_ws(' ', usename, nullif(application_name, ''), client_addr), age(backend_xmin),
    backend_start, state, null
  from pg_stat_replication where backend_xmin is not null
) as holders
order by xids desc, since
limit 20;
