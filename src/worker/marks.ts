/**
 * Low-water marks: where a claim may start in each lane. A mark stays about 100 ms behind what was taken, so that a
 * submit which drew its position earlier and commits a little later is not passed; what commits later still is found
 * by a sweep from the floor of the lane. What is put to the front of a lane, at a negative position, has marks of its
 * own.
 */
export interface Marks {
  took(steps: { lane_id: number; position: string }[], nowMs: number): void
  any(): boolean
  all(): { markLanes: number[]; markPositions: string[]; frontLanes: number[]; frontPositions: string[] }
  /** Something was put to a front. */
  forgetFronts(): void
  forget(): void
}

const BEHIND_MS = 100
const LANES_MAX = 10_000

export function createMarks(): Marks {
  const rest = createStretch()
  const front = createStretch()
  return {
    took(steps, nowMs) {
      // In the order of their positions: the last of each lane is the furthest.
      const lastOfRest = new Map<number, string>()
      const lastOfFront = new Map<number, string>()
      for (const { lane_id, position } of steps)
        (position.startsWith('-') ? lastOfFront : lastOfRest).set(lane_id, position)
      rest.took(lastOfRest, nowMs)
      front.took(lastOfFront, nowMs)
    },
    any: () => rest.all().lanes.length > 0,
    all() {
      const { lanes: markLanes, positions: markPositions } = rest.all()
      const { lanes: frontLanes, positions: frontPositions } = front.all()
      return { markLanes, markPositions, frontLanes, frontPositions }
    },
    forgetFronts: () => front.forget(),
    forget() {
      rest.forget()
      front.forget()
    },
  }
}

function createStretch() {
  const byLane = new Map<number, { mark: bigint | undefined; next: bigint; nextAt: number }>()

  function tookUpTo(laneId: number, position: bigint, nowMs: number) {
    const lane = byLane.get(laneId)
    if (!lane) {
      if (byLane.size >= LANES_MAX) byLane.clear()
      byLane.set(laneId, { mark: undefined, next: position, nextAt: nowMs })
    } else if (nowMs - lane.nextAt >= BEHIND_MS) {
      if (lane.mark === undefined || lane.next > lane.mark) lane.mark = lane.next
      lane.next = position
      lane.nextAt = nowMs
    }
  }

  return {
    took(last: Map<number, string>, nowMs: number) {
      for (const [laneId, position] of last) tookUpTo(laneId, BigInt(position), nowMs)
    },
    all() {
      const lanes: number[] = []
      const positions: string[] = []
      for (const [laneId, { mark }] of byLane) {
        if (mark === undefined) continue
        lanes.push(laneId)
        positions.push(String(mark))
      }
      return { lanes, positions }
    },
    forget: () => byLane.clear(),
  }
}
