-- Who leads, who led before, and why did it change?
-- The newest 30 terms, the open one first: its ended is empty. No open term: nobody leads, so nobody is declared dead
-- and nothing is recovered; living pods that may lead take over within a heartbeat or two, if there are any.
--   proved   how long ago the open term's leader last ended a round of its chores well (a closed one: before its end);
--            a leader whose rounds hang loses its term to another pod
--   benched  that pod does not lead again before this, unless there is nobody else
-- Terms that last seconds, one after the other, mean that leaders die or hang at their chores: read ended_why.
select
  term.term,
  pods.public_id as pod,
  pods.status as pod_is,
  term.began_at,
  date_trunc('second', coalesce(term.ended_at, fleet_q.clock()) - term.began_at) as lasted,
  date_trunc('milliseconds', coalesce(term.ended_at, fleet_q.clock()) - term.proved_at) as proved,
  term.ended_at as ended,
  term.ended_why,
  case when pods.benched_until > fleet_q.clock() then pods.benched_until end as benched
from fleet_q.leader_terms as term
join fleet_q.pods on pods.id = term.pod_id
order by term.ended_at is null desc, term.term desc
limit 30;
