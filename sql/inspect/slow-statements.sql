-- Which of our statements cost the database most?
-- By the names that every statement of ours carries, /* noun.verb */, the most time in all first, 30 at most. It needs
-- the extension pg_stat_statements; where that is not there, one row says so.
--   share      of all the time that this database's statements took, theirs and ours
--   mean, max  ms a call; a mean that grew since yesterday, with the same rows a call: look at bloat-and-horizon.sql
--   blocks     pages touched a call: the work itself, whatever the machine's mood
-- step.exchange is the heart: it should lead calls and share. Numbers count from the last pg_stat_statements_reset().
-- No rows: nothing ran yet, or it was another role that ran it; grant pg_monitor to see what others run.
begin read only;

-- A cursor, opened by whichever query can be planned here: a page that names a view that does not exist would fail.
do $$
declare
  page refcursor := 'slow_statements';
  view regclass := (
    select oid from pg_class where relname = 'pg_stat_statements' and relkind = 'v' order by oid limit 1);
begin
  if view is null or current_setting('pg_stat_statements.max', true) is null then
    open page for select
      'not there: add pg_stat_statements to shared_preload_libraries, restart, create extension pg_stat_statements'
      as note;
    return;
  end if;
  open page for execute format(
    $query$
      with ours as (
        select substring(query from '/\* ([a-z_]+\.[a-z_]+) \*/') as name, calls, total_exec_time, max_exec_time, rows,
          shared_blks_hit + shared_blks_read as blocks, sum(total_exec_time) over () as everything
        from %s
        where dbid = (select oid from pg_database where datname = current_database())
      )
      select name, sum(calls) as calls, round(sum(total_exec_time)::numeric) as total_ms,
        round((100 * sum(total_exec_time) / nullif(max(everything), 0))::numeric, 1) as share,
        round((sum(total_exec_time) / nullif(sum(calls), 0))::numeric, 3) as mean,
        round(max(max_exec_time)::numeric, 1) as max,
        round(sum(rows) / nullif(sum(calls), 0), 1) as rows_a_call,
        round(sum(blocks) / nullif(sum(calls), 0), 1) as blocks
      from ours where name is not null
      group by name order by sum(total_exec_time) desc limit 30
    $query$, view);
end $$;

fetch all from slow_statements;

commit;
