-- What did recovery do: which pods died, what came back, what was given up?
-- The newest 30 cycles, one that is under way first: its finished is empty, and it should end within seconds.
--   orphaned   steps that dead pods held; requeued: put back into their lanes; terminal: given up, see dead-letters.sql
--   took       in ms. error: why a cycle ended badly; the leader tries again by itself
--   sample     one of the requeued steps, to be looked up in fleet_q.step_status by fleet_q.step_key('step_...')
-- Cycles without any dead pod release what a pod left behind when it said goodbye, or were forced by an operator.
-- The same dead pod name in many cycles, or terminal above 0: a step may be killing pods.
select
  cycle.id as cycle,
  cycle.started_at as started,
  cycle.finished_at as finished,
  cycle.duration_ms as took,
  pods.public_id as by_pod,
  cycle.term,
  cycle.forced,
  array_to_string(cycle.dead_pods[1:5], ', ') || case
    when cardinality(cycle.dead_pods) > 5 then format(' and %s more', cardinality(cycle.dead_pods) - 5) else '' end
    as dead_pods,
  cycle.orphaned,
  cycle.requeued,
  cycle.terminal,
  cycle.requeued_steps[1] as sample,
  left(cycle.error, 200) as error
from fleet_q.recovery_cycles as cycle
join fleet_q.pods on pods.id = cycle.pod_id
order by cycle.finished_at is null desc, cycle.id desc
limit 30;
