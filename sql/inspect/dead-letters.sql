-- Which steps were given up, for what reason and with what error?
-- The newest 10,000 dead letters, grouped by type, reason and error; the latest group first, 50 at most.
--   exhausted   the handler failed, and no retry was left
--   timeout     the last attempt ran longer than it may
--   dead_pod    its pod died under its last attempt
--   poison      pods died under it again and again: it is taken for the cause, and not tried again by itself
-- newest_step is one of the group; its earlier attempts: select * from fleet_q.attempts where
-- step_id = fleet_q.step_key('step_...'). To try a group again use the API (POST /admin/dead-letters/redrive), not SQL:
-- a redrive also puts the old outcome aside, so that one step has one outcome.
select
  lanes.type,
  letter.reason,
  left(outcome.error ->> 'class', 60) as error,
  left(outcome.error ->> 'message', 120) as message,
  count(*) as steps,
  min(letter.at) as first,
  max(letter.at) as last,
  (array_agg(
    fleet_q.step_public_id(step.id, step.salt, step.created_at) order by letter.at desc, letter.step_id desc))[1]
    as newest_step
from (select * from fleet_q.dead_letters order by at desc limit 10000) as letter
cross join lateral (select * from fleet_q.outcomes where step_id = letter.step_id offset 0) as outcome
cross join lateral (select * from fleet_q.steps where id = letter.step_id offset 0) as step
join fleet_q.lanes on lanes.id = step.lane_id
group by 1, 2, 3, 4
order by max(letter.at) desc, count(*) desc
limit 50;
