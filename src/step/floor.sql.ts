import type { Sql } from '../db/connect.ts'

/**
 * Raises the floors of lanes to what lies lowest in them, as far as the last candidate goes. That one holds when every
 * transaction that was under way then has ended: this statement then sees all that was ever put below it. A reader that
 * holds back the xmin horizon has no transaction id and does not hinder it; a writer does, and then floors stay.
 */
export const raiseFloors = (sql: Sql) => sql<{ id: number }[]>`
  with /* step.raise_floors */ limited as materialized (
    select position from fleet_q.next_floor where before <= pg_snapshot_xmin(pg_current_snapshot())
  ),
  lowest as materialized (
    select lanes.id, least(limited.position, coalesce(head.position - 1, limited.position)) as floor
    from limited cross join fleet_q.lanes
    left join lateral (
      select position from fleet_q.ready
      where ready.lane_id = lanes.id and ready.position > lanes.floor
      order by ready.lane_id, ready.position limit 1
    ) as head on true
    where lanes.floor < limited.position
  )
  update fleet_q.lanes set floor = lowest.floor from lowest
  -- A lane that has not moved far is not written: ten thousand that lie idle cost nothing.
  where lanes.id = lowest.id and lowest.floor >= lanes.floor + ${WORTH_RAISING}
  returning lanes.id`

const WORTH_RAISING = 1000

export const lastPosition = (sql: Sql) => sql<{ position: string }[]>`
  select /* step.last_position */ last_value as position from fleet_q.positions`

/** The candidate for the next time. The position was read before: whoever drew it had its transaction id by then. */
export const setNextFloor = (sql: Sql, position: string) => sql`
  update /* step.next_floor */ fleet_q.next_floor
  set position = ${position}, before = pg_snapshot_xmax(pg_current_snapshot())
  where before <= pg_snapshot_xmin(pg_current_snapshot())`
