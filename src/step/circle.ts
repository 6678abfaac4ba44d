/**
 * Lanes of one priority are visited in a circle: of each priority, the lane that was visited last. Of the last
 * priority alone it was not enough: where claims of a higher one came in between, the first lane below it was served
 * time and again, and its neighbours never.
 */
export interface Turn {
  priority: number
  lane: number
}

/** A stretch of the circle, as an index holds it: highest priority first, lanes in their order. */
export interface Arc {
  highest: number
  lowest: number
  first: number
  last: number
}

const PRIORITY_MAX = 32_767
const PRIORITY_MIN = -32_768
const LANE_MAX = 2_147_483_647
/** Whoever uses more priorities than this at once begins anew now and then. */
const TURNS_MAX = 50

/** The turns after a claim, highest priority first. */
export function takeTurns(
  turns: readonly Turn[],
  claimed: readonly { priority: number; lane_id: number }[],
): readonly Turn[] {
  if (claimed.length === 0) return turns
  const before = new Map(turns.map(({ priority, lane }) => [priority, lane]))
  const last = new Map<number, number>()
  for (const { priority, lane_id } of claimed) {
    const from = before.get(priority) ?? 0
    const furthest = last.get(priority)
    // What lies at or before the last turn was come to later, when the circle had closed.
    const isFurther =
      furthest === undefined || (lane_id <= from === furthest <= from ? lane_id > furthest : lane_id <= from)
    if (isFurther) last.set(priority, lane_id)
  }
  const after = new Map([...(before.size + last.size > TURNS_MAX ? [] : before), ...last])
  return [...after]
    .map(([priority, lane]) => ({ priority, lane }))
    .toSorted((one, other) => other.priority - one.priority)
}

/** All lanes once, in the order in which a claim is to visit them. */
export function arcsOf(turns: readonly Turn[]): Arc[] {
  const arcs: Arc[] = []
  let highest = PRIORITY_MAX
  for (const { priority, lane } of turns) {
    if (highest > priority) arcs.push({ highest, lowest: priority + 1, first: 0, last: LANE_MAX })
    arcs.push({ highest: priority, lowest: priority, first: lane + 1, last: LANE_MAX })
    arcs.push({ highest: priority, lowest: priority, first: 0, last: lane })
    highest = priority - 1
  }
  return [...arcs, { highest, lowest: PRIORITY_MIN, first: 0, last: LANE_MAX }]
}
